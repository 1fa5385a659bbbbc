"""Who scores a gallery: one model, or several whose scores are averaged."""

from __future__ import annotations

from dataclasses import dataclass

from itm_lightning.distributed import ShardedFeatures, Views
from itm_lightning.errors import InputError
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.ensemble import Ensemble


@dataclass(frozen=True)
class Member:
    """A model, as the ranking engine sees it.

    Attributes:
        weight: of its scores; those of all members sum to 1.
        similarity: its head.
        images: its features of all photos.
        texts: its features of all captions.
    """

    weight: float
    similarity: Similarity
    images: ShardedFeatures
    texts: ShardedFeatures


def members_of(
    similarity: Similarity, images: ShardedFeatures, texts: ShardedFeatures
) -> list[Member]:
    """One member; of :class:`~itm_lightning.distributed.Views`, one for each of the models.

    Raises:
        InputError: there are several models' features, and the head is no ensemble of as many.
    """
    if not isinstance(images, Views) or not isinstance(texts, Views):
        return [Member(1.0, similarity, images, texts)]
    n_models = len(images.of_each)
    if not isinstance(similarity, Ensemble) or len(similarity.weights) != n_models:
        raise InputError(f"features of {n_models} models need an Ensemble of as many heads")
    each = zip(similarity.weights, similarity.each, images.of_each, texts.of_each, strict=True)
    return [Member(*member) for member in each]
