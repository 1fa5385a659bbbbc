"""The last state of a recurrent network over the tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from typing_extensions import override

from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register


@register("pooling")
class RecurrentPooling(Pooling):
    """The last state of a GRU (Cho et al. 2014) that reads the real tokens in their order.

    VSRN (Li et al., ICCV 2019) pools an image's regions in this way. The state is as wide as the
    tokens.
    """

    @override
    def build(self, dim: int) -> None:
        self.gru = nn.GRU(dim, dim, batch_first=True)

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        # real tokens first; padding becomes zero, because a row without tokens reads one of it
        order = (~mask).byte().argsort(dim=1, stable=True).unsqueeze(-1)
        tokens = tokens.masked_fill(~mask.unsqueeze(-1), 0.0).take_along_dim(order, dim=1)
        lengths = mask.sum(dim=1).clamp(min=1).cpu()  # packing needs them on the CPU and above zero
        packed = pack_padded_sequence(tokens, lengths, batch_first=True, enforce_sorted=False)
        last = self.gru(packed)[1][-1]
        return last.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
