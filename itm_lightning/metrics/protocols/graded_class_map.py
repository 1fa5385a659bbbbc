"""GradedClassMAP: class mAP, and scores of how many classes answers share."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.precision import (
    normalised_gain,
    precision_within,
    ties_against_the_model,
)
from itm_lightning.metrics.protocols.class_map import ClassMAP, multi_hot
from itm_lightning.ranking import reduce_rows, text_to_image_rows
from itm_lightning.registry import register
from itm_lightning.similarity import Hamming
from itm_lightning.similarity.base import Similarity

_CUT_OFF = 100
_RADIUS = 2
_WAYS = ("i2t", "t2i")


@register("protocol")
class GradedClassMAP(ClassMAP):
    """Class mAP, with the scores of multi-level hashing beside it.

    ``i2t_NDCG@100`` and ``t2i_NDCG@100``: the normalised discounted cumulative gain of the first
    100 answers, where an answer that shares ``r`` classes with the query gains ``2^r - 1`` (Zhao et
    al., "Deep Semantic Ranking Based Hashing for Multi-Label Image Retrieval", CVPR 2015, section
    4.1). With the head ``Hamming`` also ``i2t_P@H2`` and ``t2i_P@H2``: of the answers within two
    bits of the query the share that is right, 0 where there are none. Means over queries, as
    fractions; ties count against the model.
    """

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        """Adds ``i2t_NDCG``, ``i2t_P`` and those of ``t2i``, float64 in [0, 1]."""
        arrays = super().per_query(similarity, gallery, truth)
        of_images = multi_hot(gallery.image_ids, truth.labels)
        owners = gallery.text_image_ids
        of_texts = of_images[text_to_image_rows(gallery.image_ids, owners)]
        asks = torch.isin(gallery.image_ids, owners)
        sides = gallery.images, gallery.texts
        counts_bits = isinstance(similarity, Hamming)
        i2t = functools.partial(_gains, of_images, of_texts, counts_bits)
        t2i = functools.partial(_gains, of_texts, of_images, counts_bits)
        found = {
            "i2t": reduce_rows(similarity, *sides, "images", i2t)[asks],
            "t2i": reduce_rows(similarity, *sides, "texts", t2i),
        }
        for way, values in found.items():
            names = [f"{way}_NDCG@{_CUT_OFF}", f"{way}_P@H{_RADIUS}"][: values.shape[1]]
            arrays |= dict(zip(names, values.unbind(dim=1), strict=True))
        return arrays

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = [f"{way}_{name}" for name in (f"NDCG@{_CUT_OFF}", f"P@H{_RADIUS}") for way in _WAYS]
        added = {name: per_query[name].mean() for name in names if name in per_query}
        return super().scores(per_query) | added


def _gains(
    queries: Tensor, answers: Tensor, counts_bits: bool, rows: Tensor, scores: Tensor
) -> Tensor:
    """``(n, 1)`` gains, and with bits ``(n, 2)`` precisions, too; see ``reduce_rows``."""
    shared = (queries[rows.to(queries.device)] @ answers.mT).to(scores.device)
    gain = normalised_gain(ties_against_the_model(scores, shared), _CUT_OFF)
    if not counts_bits:
        return gain[:, None]
    return torch.stack([gain, precision_within(-scores, shared > 0, _RADIUS)], dim=1)
