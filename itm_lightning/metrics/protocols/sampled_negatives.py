"""SampledNegatives: each query against its right answer and some wrong ones."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError, Seed, Size
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Protocol, ranks_by_id
from itm_lightning.ranking import Stage, rank_sampled
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity


@register("protocol")
class SampledNegatives(Protocol):
    """Each query ranks its one right answer and 100 wrong ones, drawn at random.

    FashionBERT's measure (Gao et al., SIGIR 2020, section 4.3: Rank@K), which a cross-encoder can
    afford; FashionBERT draws from the query's sub-category. It tells nothing of a whole gallery:
    chance is 1 in 101, however many answers there are. Each image keeps its first text alone. The
    epochs of a fit are scored so, too.

    Args:
        negatives: wrong answers of each query.
        seed: of the draw; the same for every model.

    Raises:
        InputError: there is no wrong answer.
    """

    texts_per_image = 1
    monitor = "rsum"

    def __init__(self, negatives: Size = 100, seed: Seed = 0) -> None:
        self.negatives, self.seed = negatives, seed

    @override
    def check(self, truth: GroundTruth) -> None:
        super().check(truth)
        images = len(truth.texts_of_image)
        queries = sum(bool(texts) for texts in truth.texts_of_image.values())
        if min(images, queries) <= self.negatives:
            raise InputError(
                f"protocol SampledNegatives draws {self.negatives} wrong answers, and there are "
                f"{images} images, {queries} of them with texts: set protocol.negatives lower"
            )

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        stage = Stage(similarity, gallery.images, gallery.texts)
        ids = gallery.image_ids, gallery.text_image_ids
        return ranks_by_id(gallery, rank_sampled(stage, *ids, self.negatives, self.seed))
