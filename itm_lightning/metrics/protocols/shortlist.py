"""Shortlist: a cheap model ranks all, and a dear one re-orders the best of each query."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from typing_extensions import override

from itm_lightning.distributed import as_sharded
from itm_lightning.errors import InputError, Size
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Protocol, ranks_by_id
from itm_lightning.ranking import Stage, rank_shortlist
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.ensemble import Ensemble
from itm_lightning.types import MemberFeatures


@register("protocol")
class Shortlist(Protocol):
    """Of an ensemble of two, the first ranks all, and the second the best ``k`` of each query.

    For cross-encoders, which need a pass through a network for each pair::

        lightning test --ckpt_path a.ckpt --ensemble.checkpoints '[b.ckpt]' --protocol Shortlist

    Answers below the list keep the order of the first. With ``k`` as large as the gallery the
    scores are those of the second alone.

    Args:
        k: answers on a list.

    Raises:
        InputError: ``k`` is below 1.
    """

    def __init__(self, k: Size = 100) -> None:
        self.k = k

    @override
    def check_head(self, similarity: Similarity) -> None:
        members = len(similarity.heads) if isinstance(similarity, Ensemble) else 1
        if members != 2:
            raise InputError(
                f"protocol Shortlist needs two models, and there is {members}: give --ckpt_path "
                "the one that ranks all, and --ensemble.checkpoints the one that re-orders"
            )

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        self.check_head(similarity)
        first, second = (_stage(cast(Ensemble, similarity), gallery, i) for i in range(2))
        ids = gallery.image_ids, gallery.text_image_ids
        return ranks_by_id(gallery, rank_shortlist(first, second, *ids, self.k))


def _stage(ensemble: Ensemble, gallery: Gallery, member: int) -> Stage:
    """A member's head, and its part of features that all members share or that are of each."""

    def part(features: MemberFeatures) -> MemberFeatures:
        return features.parts[member] if isinstance(features, MemberFeatures) else features

    images, texts = (as_sharded(side).map(part) for side in (gallery.images, gallery.texts))
    return Stage(ensemble.each[member], images, texts)
