"""The comparison of a batch: all that an objective may read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Batch, EncodedBatch, Features, Rows, at_least_float32

GatheredT = TypeVar("GatheredT", bound="Tensor | Rows")


@dataclass(frozen=True)
class Block:
    """Scores of some images with some texts of the batch.

    Where an image stands twice in the batch, with two of its texts, these are neither positives
    nor negatives of the other row.

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
    """Some images against all texts of the batch, or some texts against all images.

    Attributes:
        scores: ``(b, B)`` float32 at least, one query a row.
        targets: ``(b,)`` int64, the column of each query's positive.
        negatives: ``(b, B)`` bool, ``True`` where query and candidate do not belong together.
    """

    scores: Tensor
    targets: Tensor
    negatives: Tensor

    @property
    def positive_scores(self) -> Tensor:
        """``(b, 1)``: each query's score with its positive."""
        return self.scores.gather(1, self.targets[:, None])

    @property
    def positives(self) -> Tensor:
        """``(b, B)`` bool, ``True`` at each query's positive."""
        columns = torch.arange(self.scores.shape[1], device=self.scores.device)
        return self.targets[:, None] == columns

    @property
    def valid(self) -> Tensor:
        """``(b, B)`` bool: positives and negatives."""
        return self.positives | self.negatives

    def violations(self, margin: float) -> Tensor:
        """``(b, B)``: ``max(0, margin + negative - positive)``; zero where there is no negative."""
        beyond = (margin + self.scores - self.positive_scores).clamp(min=0)
        return beyond.masked_fill(~self.negatives, 0)

    def cross_entropies(self, logits: Tensor) -> Tensor:
        """Cross entropy ``(b,)`` of the positive among the valid; ``logits (b, B)``, of scores."""
        logits = logits.masked_fill(~self.valid, -torch.inf)
        return F.cross_entropy(logits, self.targets, reduction="none")


class Comparison(ABC):
    """A batch of pairs as one process compares it: its own images and texts with those of all.

    The pairs of all processes are one batch of ``B``, all of them candidates of every query. An
    objective returns this process's **share** of the loss: the shares of all processes add up to
    the loss of the whole batch, and so do their gradients.

    Everything is computed when it is first read. Reading may be a collective: an objective reads
    the same things on every process.

    Args:
        similarity: the head.
        encoded: this process's ``b`` pairs; ``None`` where there are scores alone.
    """

    def __init__(self, similarity: Similarity | None, encoded: EncodedBatch | None) -> None:
        self._similarity, self._encoded = similarity, encoded

    @property
    @abstractmethod
    def pairs(self) -> int:
        """``B``, the number of pairs of the whole batch."""

    @property
    @abstractmethod
    def image_queries(self) -> Queries:
        """This process's images against all texts."""

    @property
    @abstractmethod
    def text_queries(self) -> Queries:
        """This process's texts against all images."""

    @abstractmethod
    def sum_over_blocks(self, loss: Callable[[Block], Tensor]) -> Tensor:
        """The sum of ``loss``, a scalar, over blocks of this process's images with all texts.

        Scores of one block are in memory at a time.
        """

    @abstractmethod
    def gather(self, rows: GatheredT) -> GatheredT:
        """The rows of all processes, of this process's (a tensor or Rows); with gradient."""

    @abstractmethod
    def total(self, share: Tensor) -> Tensor:
        """The sum of all processes' numbers; without gradient."""

    @property
    def similarity(self) -> Similarity:
        """The head."""
        assert self._similarity is not None  # features come with their head
        return self._similarity

    @property
    def encoded(self) -> EncodedBatch:
        """Features before and after the projection, and the batch they were made of."""
        if self._encoded is None:
            raise InputError("there are scores alone, and the objective learns from features")
        return self._encoded

    @property
    def batch(self) -> Batch:
        """This process's raw texts, ids and labels."""
        return self.encoded.batch

    @property
    def labels(self) -> Tensor:
        """``(b, C)`` bool, which classes each image (and so its text) has.

        Raises:
            InputError: the source knows no classes.
        """
        if not self.batch.labels.shape[1]:
            raise InputError("the objective learns from class labels, and the source has none")
        return self.batch.labels

    @property
    def raw_texts(self) -> list[str]:
        """This process's texts as the source has them.

        Raises:
            InputError: the source has vectors in place of texts.
        """
        if not isinstance(self.batch.texts, list):
            raise InputError("the objective reads words, and the source has vectors of texts")
        return self.batch.texts

    @cached_property
    def token_ids(self) -> tuple[Tensor, Tensor]:
        """Ids ``(b, L)`` int64 of the texts' tokens, without noise, and mask ``(b, L)`` bool."""
        return self.encoded.token_ids(self.raw_texts)

    @property
    def words(self) -> list[list[Any]]:
        """The strings behind those tokens; see ``TextEncoder.words``."""
        return self.encoded.words(self.raw_texts)

    @property
    def images(self) -> Features:
        """This process's images, projected; of tokens and pooled only what the head reads."""
        return self.encoded.images

    @property
    def texts(self) -> Features:
        """Their texts."""
        return self.encoded.texts

    @property
    def head_images(self) -> Features:
        """This process's images in the head's own space; see ``Similarity.to_head_space``."""
        return self._head_space[0]

    @property
    def head_texts(self) -> Features:
        """Their texts, likewise."""
        return self._head_space[1]

    @cached_property
    def _head_space(self) -> tuple[Features, Features]:
        images, texts = self.images, self.texts
        return self.similarity.to_head_space(images, texts)


class LocalComparison(Comparison):
    """A batch that one process has for itself."""

    def __init__(self, similarity: Similarity, encoded: EncodedBatch) -> None:
        super().__init__(similarity, encoded)
        self._ids = encoded.batch.image_ids, encoded.batch.text_image_ids

    @classmethod
    def of_scores(
        cls, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> LocalComparison:
        """Of scores alone; arguments as of ``Objective.forward``."""
        comparison = cls.__new__(cls)
        Comparison.__init__(comparison, None, None)
        if image_ids is None or text_image_ids is None:
            image_ids = text_image_ids = torch.arange(len(scores), device=scores.device)
        comparison._ids = image_ids, text_image_ids
        comparison._scores = at_least_float32(scores)
        return comparison

    @cached_property
    def _scores(self) -> Tensor:
        return at_least_float32(self.similarity(self.images, self.texts))

    @cached_property
    def _negatives(self) -> Tensor:
        return self._ids[0][:, None] != self._ids[1]

    @property
    @override
    def pairs(self) -> int:
        return len(self._ids[0])

    @cached_property
    @override
    def image_queries(self) -> Queries:
        rows = torch.arange(self.pairs, device=self._scores.device)
        return Queries(self._scores, rows, self._negatives)

    @cached_property
    @override
    def text_queries(self) -> Queries:
        return Queries(self._scores.mT, self.image_queries.targets, self._negatives.mT)

    @override
    def sum_over_blocks(self, loss: Callable[[Block], Tensor]) -> Tensor:
        return loss(Block(self._scores, self.image_queries.positives, self._negatives))

    @override
    def gather(self, rows: GatheredT) -> GatheredT:
        return rows

    @override
    def total(self, share: Tensor) -> Tensor:
        return share
