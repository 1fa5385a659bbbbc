"""Self-attention that makes one vector of a photo's regions or a caption's words, as in SGRAF."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itm_lightning.similarity.functional import unit
from itm_lightning.similarity.masked_batch_norm import MaskedBatchNorm
from itm_lightning.types import masked_mean

_DROPOUT = 0.4  # the authors'


class GlobalVector(nn.Module):
    """A weighted mean of the tokens, whose mean tells how much each of them counts.

    ``softmax(w · (tanh(A token) ∘ tanh(B mean)))`` over the real tokens. Diao et al., AAAI 2021,
    section "Similarity Vector Representation", after Lee et al. 2018 and Nam et al. 2017.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.local = nn.Linear(dim, dim)
        self.overall = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Vectors ``(B, D)`` of length 1; zero for a row without tokens.

        Args:
            tokens: ``(B, L, D)``, zero at padding.
            mask: ``(B, L)`` bool, ``True`` at real tokens.
        """
        local = self.dropout(self._normalise_local(self.local(tokens), mask).tanh())
        overall = self._normalise_overall(self.overall(masked_mean(tokens, mask))).tanh()
        scores = self.score(local * self.dropout(overall).unsqueeze(1)).squeeze(-1)
        # the lowest finite number: with -inf a row without tokens would be NaN
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1)
        return unit((weights.unsqueeze(1) @ tokens).squeeze(1))

    def _normalise_local(self, local: Tensor, mask: Tensor) -> Tensor:
        return local

    def _normalise_overall(self, overall: Tensor) -> Tensor:
        return overall


class NormalisedGlobalVector(GlobalVector):
    """The same with batch normalisation before both ``tanh``, for photos.

    Of the tokens, every position has its own statistics: region 1 of all photos, region 2, ….

    Args:
        dim: width of the tokens.
        length: the most tokens that a row has.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim)
        self.local_norm = MaskedBatchNorm(length)
        self.overall_norm = MaskedBatchNorm(dim)

    def _normalise_local(self, local: Tensor, mask: Tensor) -> Tensor:
        return self.local_norm(local, mask.unsqueeze(-1))

    def _normalise_overall(self, overall: Tensor) -> Tensor:
        return self.overall_norm(overall.unsqueeze(-1), overall.new_ones(1).bool()).squeeze(-1)
