"""ClassMAP: an answer is right where it shares a class with the query."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.precision import average_precision, ties_against_the_model
from itm_lightning.metrics.protocols.base import Protocol
from itm_lightning.ranking import reduce_rows, text_to_image_rows
from itm_lightning.registry import get, list_registered, register
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
                f"sources with classes are {', '.join(_with_classes())}"
            )

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        """Adds ``i2t_AP``, ``i2t_AP@50`` and those of ``t2i``, float64 in [0, 1]."""
        arrays = super().per_query(similarity, gallery, truth)
        of_images = multi_hot(gallery.image_ids, truth.labels)
        owners = gallery.text_image_ids
        of_texts = of_images[text_to_image_rows(gallery.image_ids, owners)]
        asks = torch.isin(gallery.image_ids, owners)
        sides = gallery.images, gallery.texts
        i2t = functools.partial(_average_precisions, of_images, of_texts)
        t2i = functools.partial(_average_precisions, of_texts, of_images)
        found = {
            "i2t": reduce_rows(similarity, *sides, "images", i2t)[asks],
            "t2i": reduce_rows(similarity, *sides, "texts", t2i),
        }
        for way, values in found.items():
            arrays |= {f"{way}_AP": values[:, 0], f"{way}_AP@{_CUT_OFF}": values[:, 1]}
        return arrays

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table = {
            f"{way}_m{name}": per_query[f"{way}_{name}"].mean()
            for name in ("AP", f"AP@{_CUT_OFF}")
            for way in _WAYS
        }
        table["mAP"] = torch.stack([table[f"{way}_mAP"] for way in _WAYS]).mean()
        return super().scores(per_query) | table


def multi_hot(image_ids: Tensor, labels: Mapping[int, Sequence[int]]) -> Tensor:
    """``(N, C)`` float32, 1 for each of the classes of each image."""
    rows = [labels[image] for image in image_ids.tolist()]
    classes = torch.zeros(len(rows), 1 + max(max(row, default=0) for row in rows))
    for row, numbers in enumerate(rows):
        classes[row, list(numbers)] = 1
    return classes.to(image_ids.device)


def _average_precisions(queries: Tensor, answers: Tensor, rows: Tensor, scores: Tensor) -> Tensor:
    """``(n, 2)``, over the whole ranking and to the cut-off; see ``reduce_rows``."""
    shared = queries[rows.to(queries.device)] @ answers.mT
    hits = ties_against_the_model(scores, (shared > 0).to(scores.device))
    return torch.stack([average_precision(hits), average_precision(hits, _CUT_OFF)], dim=1)


def _with_classes() -> list[str]:
    """The sources that have classes, or may have: those that say so themselves."""
    sources = {name: get("source", name) for name in list_registered("source")}
    return [
        name
        for name, source in sources.items()
        if any("class_names" in vars(cls) and cls.__name__ != "Source" for cls in source.__mro__)
    ]
