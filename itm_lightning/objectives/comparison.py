"""What an objective reads: a batch, as this process compares it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.types import Features, RowsT, at_least_float32


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
    def valid(self) -> Tensor:
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
    def positive_scores(self) -> Tensor:
        """``(b, 1)``: each query's score of its own candidate."""
        return self.scores.gather(1, self.targets[:, None])

    @property
    def positives(self) -> Tensor:
        """``(b, B)`` bool, ``True`` at each query's own candidate."""
        columns = torch.arange(self.scores.shape[1], device=self.scores.device)
        return self.targets[:, None] == columns

    @property
    def valid(self) -> Tensor:
        """``(b, B)`` bool: positives and negatives; what is neither, see :class:`Block`."""
        return self.positives | self.negatives


class Comparison(ABC):
    """A batch of pairs, of which this process answers for some: its own photos and captions.

    All processes' pairs together are one batch of ``B``, and the candidates of every query are
    everybody's. An objective returns this process's **share** of the loss: the shares of all
    processes add up to the loss of the whole batch, and so do their gradients.

    What is read is computed, and what nobody reads is not. Reading may be a collective: objectives
    read the same on every process.
    """

    @property
    @abstractmethod
    def pairs(self) -> int:
        """``B``, the pairs of the whole batch."""

    @property
    @abstractmethod
    def images(self) -> Features:
        """This process's photos ``(b, …)``, where the head lifts them.

        Raises:
            InputError: there are scores alone.
        """

    @property
    @abstractmethod
    def texts(self) -> Features:
        """Their captions, likewise."""

    @property
    @abstractmethod
    def image_queries(self) -> Queries:
        """This process's photos against all captions."""

    @property
    @abstractmethod
    def text_queries(self) -> Queries:
        """This process's captions against all photos."""

    @abstractmethod
    def sum_over_blocks(self, loss: Callable[[Block], Tensor]) -> Tensor:
        """The sum of ``loss``, a scalar, over blocks of this process's photos by all captions.

        Only one block's scores are in memory at a time.
        """

    @abstractmethod
    def gather(self, rows: RowsT) -> RowsT:
        """Everybody's rows, of this process's; with gradient."""

    @abstractmethod
    def total(self, share: Tensor) -> Tensor:
        """The sum of everybody's number; without gradient."""


class LocalComparison(Comparison):
    """A batch that one process has for itself, whose score matrix is there.

    Args:
        scores: ``(B, B)`` float, photos by captions; the pairs lie on the diagonal.
        images: the photos, where the head lifts them; not needed by objectives on scores.
        texts: the captions, likewise.
        image_ids: ``(B,)`` int64, the photo of each row. Without ids every off-diagonal pair
            counts as a negative.
        text_image_ids: ``(B,)`` int64, the photo of each column's caption.
    """

    def __init__(
        self,
        scores: Tensor,
        images: Features | None = None,
        texts: Features | None = None,
        image_ids: Tensor | None = None,
        text_image_ids: Tensor | None = None,
    ) -> None:
        self._scores = at_least_float32(scores)
        self._images, self._texts = images, texts
        self._rows = torch.arange(len(scores), device=scores.device)
        if image_ids is None or text_image_ids is None:
            image_ids = text_image_ids = self._rows
        self._negatives = image_ids[:, None] != text_image_ids

    @property
    @override
    def pairs(self) -> int:
        return len(self._rows)

    @property
    @override
    def images(self) -> Features:
        return _there(self._images)

    @property
    @override
    def texts(self) -> Features:
        return _there(self._texts)

    @cached_property
    @override
    def image_queries(self) -> Queries:
        return Queries(self._scores, self._rows, self._negatives)

    @cached_property
    @override
    def text_queries(self) -> Queries:
        return Queries(self._scores.mT, self._rows, self._negatives.mT)

    @override
    def sum_over_blocks(self, loss: Callable[[Block], Tensor]) -> Tensor:
        return loss(Block(self._scores, self.image_queries.positives, self._negatives))

    @override
    def gather(self, rows: RowsT) -> RowsT:
        return rows

    @override
    def total(self, share: Tensor) -> Tensor:
        return share


def _there(side: Features | None) -> Features:
    if side is None:
        raise InputError("there are scores alone, and the objective learns from features")
    return side
