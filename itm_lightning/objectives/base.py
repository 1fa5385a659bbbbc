"""What an objective is: it learns from the comparison of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.objectives.comparison import Comparison, LocalComparison, Queries
from itm_lightning.part import Part
from itm_lightning.types import Widths


class Objective(Part, nn.Module, ABC):
    """Learns from a batch in which image ``i`` and text ``i`` belong together.

    Derive from :class:`QueryObjective` to learn from the scores of each query's candidates, and
    from :class:`FeatureObjective` to learn from features, texts or labels; with
    :class:`~itm_lightning.part.UsesLabels` before it where it needs labels.

    Weights of an objective are trained with the rest, and lie in the checkpoint.

    Attributes:
        trains_before_solving: whether, with a head that is solved in closed form, encoders and
            projections are trained all the same, and the head is solved after every epoch.
    """

    trains_before_solving = False

    def build(self, widths: Widths) -> None:
        """Makes the weights that depend on the widths of the features; called once, before all."""

    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        """Learns from the training texts before a fit, where the objective reads words."""

    @abstractmethod
    def loss(self, comparison: Comparison) -> Tensor:
        """This process's share of the loss, a scalar.

        Sum over this process's own rows, and for a mean divide by :attr:`Comparison.pairs`.
        """

    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        """The loss of a score matrix, a scalar.

        Args:
            scores: ``(B, B)`` float, images by texts; the pairs lie on the diagonal.
            image_ids: ``(B,)`` int64, by row; without, every pair off the diagonal is a negative.
            text_image_ids: ``(B,)`` int64, the image of each column's text.

        Raises:
            InputError: the objective learns from more than scores; call :meth:`loss`.
        """
        return self.loss(LocalComparison.of_scores(scores, image_ids, text_image_ids))


class QueryObjective(Objective):
    """Learns from the scores of queries; a subclass writes :meth:`query_loss`."""

    @abstractmethod
    def query_loss(self, queries: Queries) -> Tensor:
        """The loss, a scalar, summed over some queries.

        It is called for images and for texts; the two are added.
        """

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        return self.query_loss(comparison.image_queries) + self.query_loss(comparison.text_queries)


class FeatureObjective(Objective):
    """Learns from features, texts or labels of a batch; a subclass writes :meth:`loss`."""

    @override
    def forward(self, *scores: Tensor | None) -> Tensor:
        raise InputError(f"{type(self).__name__} learns from features, not scores: call its loss()")
