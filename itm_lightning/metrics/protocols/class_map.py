"""ClassMAP: an answer is right where it shares a class with the query."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.precision import average_precision, ties_against_the_model
from itm_lightning.metrics.protocols.base import Protocol
from itm_lightning.ranking import reduce_rows, text_to_image_rows
from itm_lightning.registry import list_overriding, register
from itm_lightning.similarity.base import Similarity

_CUT_OFF = 50
_WAYS = ("i2t", "t2i")


@register("protocol")
class ClassMAP(Protocol):
    """Mean average precision by class, and the scores of plain retrieval.

    An answer is right where its image shares at least one class with the query's; the query's own
    pair has no special role. Rasiwasia et al. (ACM MM 2010) count over the whole ranking, and so do
    DSCMR and JGRHML: ``i2t_mAP``, ``t2i_mAP``, and their mean ``mAP``. Correspondence autoencoders
    (Feng et al. 2014) and what follows them count to place 50: ``i2t_mAP@50``, ``t2i_mAP@50``,
    which are far higher, see :func:`~itm_lightning.metrics.precision.average_precision`: never
    put both in one column. All are fractions.

    Ties count against the model: among equal scores the wrong answers come first. A query without
    a right answer counts 0. The validation epochs of a fit are scored so too, and the checkpoint is
    chosen by ``val/mAP``. Each pair is scored three times: once for ranks, and once a direction, as
    the average precision needs all of a query's scores at once.
    """

    monitor = "mAP"

    @override
    def check(self, truth: GroundTruth) -> None:
        super().check(truth)
        if not any(truth.labels.values()):
            raise InputError(
                f"protocol {type(self).__name__} scores by class labels, and this split has none: "
                f"sources with classes are {', '.join(list_overriding('source', 'class_names'))}"
            )

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        """Adds :meth:`measures` of each query, as ``i2t_AP``, ``t2i_AP`` and so on."""
        arrays = super().per_query(similarity, gallery, truth)
        of_images = multi_hot(gallery.image_ids, truth.labels)
        owners = gallery.text_image_ids
        of_texts = of_images[text_to_image_rows(gallery.image_ids, owners)]
        asks = torch.isin(gallery.image_ids, owners)
        sides = gallery.images, gallery.texts
        names = self.measure_names(similarity)
        i2t = functools.partial(self._measured, names, of_images, of_texts)
        t2i = functools.partial(self._measured, names, of_texts, of_images)
        found = {
            "i2t": reduce_rows(similarity, *sides, "images", i2t)[asks],
            "t2i": reduce_rows(similarity, *sides, "texts", t2i),
        }
        for way, values in found.items():
            arrays |= {f"{way}_{name}": values[:, n] for n, name in enumerate(names)}
        return arrays

    def measure_names(self, similarity: Similarity) -> list[str]:
        """The names of :meth:`measures` that the head's scores allow."""
        return ["AP", f"AP@{_CUT_OFF}"]

    def measures(self, scores: Tensor, shared: Tensor) -> dict[str, Callable[[], Tensor]]:
        """How to compute each measure ``(n,)``, float64 in [0, 1], of ``n`` queries.

        Args:
            scores: ``(n, m)`` float32, of queries with all answers.
            shared: ``(n, m)`` float32, how many classes they share.
        """
        hits = ties_against_the_model(scores, shared > 0)
        return {
            "AP": lambda: average_precision(hits),
            f"AP@{_CUT_OFF}": lambda: average_precision(hits, _CUT_OFF),
        }

    def _measured(
        self, names: list[str], queries: Tensor, answers: Tensor, rows: Tensor, scores: Tensor
    ) -> Tensor:
        """``(n, len(names))``; see ``reduce_rows``."""
        shared = (queries[rows.to(queries.device)] @ answers.mT).to(scores.device)
        measures = self.measures(scores, shared)
        return torch.stack([measures[name]() for name in names], dim=1)

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().scores(per_query) | mean_precisions(per_query)


def mean_precisions(per_query: Mapping[str, Tensor], ranking: str = "") -> dict[str, Tensor]:
    """``i2t_mAP``, ``t2i_mAP@50`` and so on, and ``mAP``, of every query's average precision.

    Args:
        per_query: ``i2t_AP`` and so on.
        ranking: stands before ``AP`` and ``mAP`` in all names.
    """
    table = {
        f"{way}_{ranking}m{name}": per_query[f"{way}_{ranking}{name}"].mean()
        for name in ("AP", f"AP@{_CUT_OFF}")
        for way in _WAYS
    }
    table[f"{ranking}mAP"] = torch.stack([table[f"{way}_{ranking}mAP"] for way in _WAYS]).mean()
    return table


def multi_hot(image_ids: Tensor, labels: Mapping[int, Sequence[int]]) -> Tensor:
    """``(N, C)`` float32, 1 for each of the classes of each image."""
    rows = [labels[image] for image in image_ids.tolist()]
    classes = torch.zeros(len(rows), 1 + max(max(row, default=0) for row in rows))
    for row, numbers in enumerate(rows):
        classes[row, list(numbers)] = 1
    return classes.to(image_ids.device)
