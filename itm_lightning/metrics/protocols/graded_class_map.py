"""GradedClassMAP: class mAP, and scores of how many classes answers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from typing_extensions import override

from itm_lightning.metrics.precision import (
    normalised_gain,
    precision_within,
    ties_against_the_model,
)
from itm_lightning.metrics.protocols.class_map import ClassMAP
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
    def measure_names(self, similarity: Similarity) -> list[str]:
        own = [f"NDCG@{_CUT_OFF}", *([f"P@H{_RADIUS}"] if isinstance(similarity, Hamming) else [])]
        return super().measure_names(similarity) + own

    @override
    def measures(self, scores: Tensor, shared: Tensor) -> dict[str, Callable[[], Tensor]]:
        ordered = ties_against_the_model(scores, shared)
        return super().measures(scores, shared) | {
            f"NDCG@{_CUT_OFF}": lambda: normalised_gain(ordered, _CUT_OFF),
            f"P@H{_RADIUS}": lambda: precision_within(-scores, shared > 0, _RADIUS),
        }

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = [f"{way}_{name}" for name in (f"NDCG@{_CUT_OFF}", f"P@H{_RADIUS}") for way in _WAYS]
        added = {name: per_query[name].mean() for name in names if name in per_query}
        return super().scores(per_query) | added
