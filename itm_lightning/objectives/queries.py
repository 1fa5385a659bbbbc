"""Scores as objectives read them: of queries against all candidates, or of a block of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Scores of some photos and some captions of the batch.

    Where a photo stands twice in the batch, each time with another of its captions, the two
    captions are neither positives nor negatives of the other row.

    Attributes:
        scores: ``(n, m)`` float32 at least.
        positives: ``(n, m)`` bool, ``True`` where the two are a pair of the batch.
        negatives: ``(n, m)`` bool, ``True`` where they do not belong together.
    """

    scores: Tensor
    positives: Tensor
    negatives: Tensor

    @property
    def counted(self) -> Tensor:
        """``(n, m)`` bool: positives and negatives."""
        return self.positives | self.negatives


@dataclass(frozen=True)
class Queries:
    """Some photos against all captions of the batch, or some captions against all photos.

    Attributes:
        scores: ``(b, B)`` float32 at least, a query a row.
        targets: ``(b,)`` int64, the column of each query's own candidate.
        negatives: ``(b, B)`` bool, ``True`` where query and candidate do not belong together.
    """

    scores: Tensor
    targets: Tensor
    negatives: Tensor

    @property
    def own(self) -> Tensor:
        """``(b, 1)``: each query's score of its own candidate."""
        return self.scores.gather(1, self.targets[:, None])

    @property
    def positives(self) -> Tensor:
        """``(b, B)`` bool, ``True`` at each query's own candidate."""
        columns = torch.arange(self.scores.shape[1], device=self.scores.device)
        return self.targets[:, None] == columns

    @property
    def counted(self) -> Tensor:
        """``(b, B)`` bool: positives and negatives; what is neither, see :class:`Block`."""
        return self.positives | self.negatives
