"""SAF: a mean of similarity vectors, weighted by their significance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.distributed.masked_batch_norm import MaskedBatchNorm
from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.sgraf.base import Sgraf
from itm_lightning.types import unit

_EPS = 1e-8


@register("similarity")
class SAF(Sgraf):
    """Similarity attention filtration (SGRAF; Diao et al., AAAI 2021).

    A linear layer scores a weighted mean of a pair's similarity vectors ``s_i``, one for each word
    and one of the global vectors; scores are in (0, 1). Each vector's weight (section "Similarity
    Attention Filtration") is

    ``β_i = σ(BN(w · s_i + b)) / Σ_j σ(BN(w · s_j + b))``

    In training the batch statistics are those of all pairs at once; the authors' loop computes them
    for the pairs of each text. Tokens are scaled to length 1, as by the authors' encoders. The
    authors' parameters can be loaded with :func:`itm_lightning.similarity.from_sgraf_state`.

    Args:
        dim: width of the tokens.
        sim_dim: width of the similarity vectors.
        regions: the most regions that an image has. Batch normalisation in the image's
            self-attention has statistics for each; an image with fewer uses the first ones.
    """

    def __init__(self, dim: Size, sim_dim: Size = 256, regions: Size = 36) -> None:
        super().__init__(dim, sim_dim, regions)
        self.significance = nn.Linear(sim_dim, 1)
        self.significance_norm = MaskedBatchNorm(1)
        self.initialise()

    @override
    def match(self, vectors: Tensor, counts: Tensor) -> Tensor:
        mask = torch.arange(vectors.shape[2], device=counts.device) < counts.unsqueeze(1)
        logits = self.significance(vectors).squeeze(-1)
        one_channel = self.significance_norm(
            logits.view(1, 1, -1), mask.expand_as(logits).flatten()
        )
        gates = one_channel.view_as(logits).sigmoid() * mask
        weights = gates / gates.sum(dim=-1, keepdim=True).clamp(min=_EPS)
        return unit((weights.unsqueeze(2) @ vectors).squeeze(2))
