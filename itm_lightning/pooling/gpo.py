"""GPO: a weighted mean of the sorted values, with learnt weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.pooling.base import Pooling
from itm_lightning.registry import register

_TEMPERATURE = 0.1  # the authors'


@register("pooling")
class GPO(Pooling):
    """Generalized Pooling Operator (VSE∞; Chen et al., CVPR 2021).

    Each channel's values over the ``L`` real tokens are sorted, and the result is
    ``Σ_k θ(k, L) · k-th largest``, with weights that sum to 1 over ``k``. Mean, max and k-max are
    special cases. The weights are ``softmax(w · h_k / 0.1)``, where ``h_k`` is the mean of both
    directions of a GRU that reads sine and cosine encodings of the positions 1 … L.

    The parameters have the authors' names, ``gru.*`` and ``linear.weight``, so that their
    checkpoints load.

    Args:
        position_dim: width of the encodings of the positions; an even number.
        hidden: width of the GRU's state, in each direction.
    """

    def __init__(self, position_dim: Size = 32, hidden: Size = 32) -> None:
        super().__init__()
        self.position_dim = position_dim
        self.gru = nn.GRU(position_dim, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(hidden, 1, bias=False)

    def weights(self, mask: Tensor) -> Tensor:
        """The weight of the k-th largest value ``(B, L)``: 0 past the row's tokens; rows sum to 1.

        Args:
            mask: ``(B, L)`` bool, ``True`` at real tokens. Only their number matters.
        """
        # rows of equal length have equal weights, so each length is computed once
        lengths, row = mask.sum(dim=1).unique(return_inverse=True)
        size = mask.shape[1]
        encodings = position_encodings(size, self.position_dim).to(self.linear.weight)
        packed = pack_padded_sequence(
            encodings.expand(len(lengths), -1, -1),
            lengths.clamp(min=1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=size)
        scores = self.linear(states.unflatten(-1, (2, -1)).mean(dim=-2)).squeeze(-1)
        real = torch.arange(size, device=mask.device) < lengths.unsqueeze(1)
        # the lowest finite number: with -inf, a row without tokens would be NaN
        logits = (scores / _TEMPERATURE).masked_fill(~real, torch.finfo(scores.dtype).min)
        return (logits.softmax(dim=1) * real)[row]

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        lowest = tokens.masked_fill(~mask.unsqueeze(-1), float("-inf"))
        ranked = lowest.sort(dim=1, descending=True).values
        ranked = ranked.masked_fill(ranked == float("-inf"), 0.0)
        return (self.weights(mask).unsqueeze(1) @ ranked).squeeze(1)


def position_encodings(length: int, dim: int) -> Tensor:
    """Sines and cosines in turn, ``(length, dim)`` float32; Vaswani et al. 2017, section 3.5."""
    position = torch.arange(length, dtype=torch.float).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angle = position * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
