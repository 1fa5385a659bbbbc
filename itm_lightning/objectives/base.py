"""What every objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.objectives.comparison import Comparison, LocalComparison, Queries
from itm_lightning.part import Part


class Objective(Part, nn.Module, ABC):
    """Learns from a batch in which photo ``i`` and caption ``i`` belong together.

    Derive from :class:`QueryObjective` where each photo's, and each caption's, scores of all
    candidates are what is learnt from, and from :class:`FeatureObjective` where features are; from
    this class where it is neither.
    """

    @abstractmethod
    def loss(self, comparison: Comparison) -> Tensor:
        """This process's share of the loss, a scalar.

        Where processes share a batch, shares add up to the loss: sum over this process's own rows,
        and for a mean divide by :attr:`~Comparison.pairs`. On one process the share is the whole.

        Args:
            comparison: the batch.
        """

    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        """The loss of a score matrix, a scalar.

        Args:
            scores: ``(B, B)`` float, photos by captions; the pairs lie on the diagonal.
            image_ids: ``(B,)`` int64, the photo of each row. Without ids every off-diagonal pair
                counts as a negative.
            text_image_ids: ``(B,)`` int64, the photo of each column's caption.
        """
        batch = LocalComparison(scores, image_ids=image_ids, text_image_ids=text_image_ids)
        return self.loss(batch)


class QueryObjective(Objective):
    """Learns from the scores of queries; a subclass writes :meth:`query_loss`."""

    @abstractmethod
    def query_loss(self, queries: Queries) -> Tensor:
        """The loss of some queries, a scalar, summed over them.

        It is called for this process's photos and for its captions; the two are added.
        """

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        images, texts = comparison.image_queries, comparison.text_queries
        return self.query_loss(images) + self.query_loss(texts)


class FeatureObjective(Objective):
    """Learns from the features of a batch; a subclass writes :meth:`loss`."""

    @override
    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        raise InputError(f"{type(self).__name__} learns from features, not scores: call its loss()")
