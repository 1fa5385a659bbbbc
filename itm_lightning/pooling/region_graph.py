"""VSRN's graph of regions, and the recurrent network that reads it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.distributed.masked_batch_norm import MaskedBatchNorm
from itm_lightning.errors import Size
from itm_lightning.pooling.recurrent import RecurrentPooling
from itm_lightning.registry import register


class GraphStep(nn.Module):
    """``v + BN(W · a)`` with ``aᵢ = Σⱼ (θvᵢ · φvⱼ) gvⱼ / N`` over the ``N`` real regions.

    VSRN's equations 2 and 4, as its code has them: no softmax, and the batch normalisation starts
    with scale 0, so that a step at first changes nothing.

    Args:
        dim: width of the regions.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g, self.w = (nn.Linear(dim, dim) for _ in range(4))
        self.norm = MaskedBatchNorm(dim)
        nn.init.zeros_(self.norm.weight)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """The regions ``(B, L, D)`` after this step; those at padding have no meaning.

        Args:
            regions: ``(B, L, D)``.
            mask: ``(B, L)`` bool, ``True`` at real regions.
        """
        values = self.g(regions).masked_fill(~mask.unsqueeze(-1), 0.0)
        affinities = self.theta(regions) @ self.phi(regions).mT
        count = mask.sum(dim=1).clamp(min=1)[:, None, None]
        changes = self.w(affinities @ values / count)
        return regions + self.norm(changes.mT, mask.unsqueeze(1)).mT


@register("pooling")
class RegionGraph(RecurrentPooling):
    """Regions that learn from each other in a graph, then the last state of a GRU over them.

    VSRN's image side (Li et al.: "Visual Semantic Reasoning for Image-Text Matching", ICCV 2019,
    sections 3.1 to 3.3): :class:`GraphStep` several times, then the GRU. The linear layer before
    them is the encoder's ``projection``, a :class:`~itm_lightning.encoders.LinearProjection`. The
    tokens are the regions after the graph: VSRN's caption loss reads them.

    After the graph each channel is scaled to length 1 **over the regions**: the authors' ``l2norm``
    takes dimension 1 of ``(B, L, D)``.

    Args:
        steps: of the graph.
        first_norm: scale the channels before the graph too, as the authors do on COCO;
            ``False`` on Flickr30k.
        final_norm: batch normalisation of the GRU's state, as they do on Flickr30k; ``False`` on
            COCO.

    Raises:
        InputError: there is no step.
    """

    def __init__(self, steps: Size = 4, first_norm: bool = True, final_norm: bool = False) -> None:
        super().__init__()
        self.n_steps, self.first_norm, self.final_norm = steps, first_norm, final_norm

    @override
    def build(self, dim: int) -> None:
        super().build(dim)
        self.steps = nn.ModuleList(GraphStep(dim) for _ in range(self.n_steps))
        self.norm = MaskedBatchNorm(dim) if self.final_norm else None

    @override
    def relate(self, tokens: Tensor, mask: Tensor) -> Tensor:
        regions = _unit_channels(tokens, mask) if self.first_norm else tokens
        for step in self.steps:
            regions = step(regions, mask)
        return _unit_channels(regions, mask)

    @override
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        state = super().forward(tokens, mask)
        if self.norm is None:
            return state
        filled = mask.any(dim=1)[:, None, None]
        normed = self.norm(state.unsqueeze(-1), filled)
        return torch.where(filled, normed, 0.0).squeeze(-1)


def _unit_channels(regions: Tensor, mask: Tensor) -> Tensor:
    """``(B, L, D)``: each channel of length 1 over the real regions, and zero at padding."""
    return F.normalize(regions.masked_fill(~mask.unsqueeze(-1), 0.0), dim=1)
