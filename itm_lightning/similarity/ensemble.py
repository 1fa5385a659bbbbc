"""Ensemble: the mean of several heads' scores."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures, Features, MemberFeatures


def check_weights(weights: Sequence[float], members: int, name: str) -> None:
    """Checks the weights of an ensemble.

    Args:
        weights: as given.
        members: how many there are.
        name: of what was given, for the message.

    Raises:
        InputError: there is no member, or not one finite weight above 0 for each.
    """
    positive = all(weight > 0 for weight in weights) and math.isfinite(sum(weights))
    if not members or len(weights) != members or not positive:
        raise InputError(
            f"{name}: weights {list(weights)} for {members} models; give at least one model, and "
            "for each a finite number above 0"
        )


@register("similarity")
class Ensemble(Similarity):
    """``Σ wᵢ · headᵢ / Σ wᵢ``: the mean of several heads' scores.

    All heads read the same features, or each head reads the features of its own model, see
    :class:`~itm_lightning.ensemble.EnsembleMatcher`.

    SGRAF (Diao et al., AAAI 2021) and VSRN (Li et al., ICCV 2019) report ensembles of two models
    with equal weights. Scores are not normalised: combine heads whose scores have the same scale,
    or choose the weights accordingly.

    Args:
        heads: at least one; they may read pooled vectors and tokens.
        weights: one positive number a head; all 1 by default.

    Raises:
        InputError: there is no head, not one weight for each, or a weight is not positive.
    """

    def __init__(self, heads: list[Similarity], weights: list[float] | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(heads) if weights is None else list(weights)
        check_weights(weights, len(heads), "Ensemble")
        self.weights = [weight / sum(weights) for weight in weights]
        self.heads = nn.ModuleList(heads)

    @override
    def select(self, features: Any) -> Any:
        """The part of the features that the heads read.

        Args:
            features: :class:`~itm_lightning.types.Features` that all heads read, or
                :class:`~itm_lightning.types.MemberFeatures` with one part a head.

        Raises:
            InputError: the features lack what a head reads, or have not one part a head.
        """
        parts = [head.select(part) for head, part in self._part_of_each(features)]
        if isinstance(features, MemberFeatures):
            return MemberFeatures(tuple(parts))

        def read(name: str) -> Any:
            return next((v for v in (getattr(part, name) for part in parts) if v is not None), None)

        return Features(read("tokens"), read("mask"), read("pooled"))

    @override
    def build(self, image_dim: int, text_dim: int) -> None:
        for head in self.each:
            head.build(image_dim, text_dim)

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return max(head.pair_elements(regions, words, dim) for head in self.each)

    @override
    def prepare_images(self, images: AnyFeatures) -> MemberFeatures:
        prepared = (head.prepare_images(part) for head, part in self._part_of_each(images))
        return MemberFeatures(tuple(prepared))

    @override
    def prepare_texts(self, texts: AnyFeatures) -> MemberFeatures:
        prepared = (head.prepare_texts(part) for head, part in self._part_of_each(texts))
        return MemberFeatures(tuple(prepared))

    def score(self, images: MemberFeatures, texts: MemberFeatures) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        members = zip(self.weights, self.members(images, texts), strict=True)
        weighted = (weight * head.score(i, t) for weight, (head, i, t) in members)
        return functools.reduce(torch.add, weighted)

    def members(
        self, images: MemberFeatures, texts: MemberFeatures
    ) -> Iterator[tuple[Similarity, Any, Any]]:
        """Each head with what it prepared of the images and of the texts."""
        return zip(self.each, images.parts, texts.parts, strict=True)

    @property
    def each(self) -> list[Similarity]:
        """The heads."""
        return [cast(Similarity, head) for head in self.heads]

    def _part_of_each(self, features: AnyFeatures) -> Iterator[tuple[Similarity, Features]]:
        if not isinstance(features, MemberFeatures):
            return ((head, features) for head in self.each)
        if len(features.parts) != len(self.heads):
            raise InputError(
                f"features of {len(features.parts)} models need an Ensemble of as many heads"
            )
        return zip(self.each, features.parts, strict=True)
