"""Ensemble: several heads that vote."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features, Rows


@dataclass(frozen=True)
class Several(Rows):
    """A side as each head prepared it, one after the other."""

    parts: tuple[Rows, ...]

    @override
    def _map(self, function: Callable[[Any], Any]) -> Several:
        return Several(tuple(function(part) for part in self.parts))

    @override
    def _first(self) -> Tensor:
        return self.parts[0]._first()


@register("similarity")
class Ensemble(Similarity):
    """``Σ wᵢ · headᵢ / Σ wᵢ``: the mean of several heads' scores of the same features.

    With equal weights, what SGRAF (Diao et al., AAAI 2021) and VSRN (Li et al., ICCV 2019) report
    of two models. Scores are averaged as they are: mix heads of one scale, or weigh them.

    Args:
        heads: at least one; they may read pooled vectors and tokens.
        weights: one positive number a head; all 1 by default.

    Raises:
        InputError: there is no head, not one weight for each, or a weight is not positive.
    """

    def __init__(self, heads: list[Similarity], weights: list[float] | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(heads) if weights is None else list(weights)
        if not heads or len(heads) != len(weights) or min(weights) <= 0:
            raise InputError(
                f"Ensemble: {len(heads)} heads and weights {weights}; "
                "give at least one head and one positive weight for each"
            )
        self.weights = [weight / sum(weights) for weight in weights]
        self.heads = nn.ModuleList(heads)

    @override
    def select(self, features: Features) -> Features:
        kept = [head.select(features) for head in self.each]

        def read(name: str) -> Any:
            return next((v for v in (getattr(part, name) for part in kept) if v is not None), None)

        return Features(read("tokens"), read("mask"), read("pooled"))

    @override
    def build(self, image_dim: int, text_dim: int) -> None:
        for head in self.each:
            head.build(image_dim, text_dim)

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return max(head.pair_elements(regions, words, dim) for head in self.each)

    @override
    def prepare_images(self, images: Features) -> Several:
        return Several(tuple(head.prepare_images(images) for head in self.each))

    @override
    def prepare_texts(self, texts: Features) -> Several:
        return Several(tuple(head.prepare_texts(texts) for head in self.each))

    def score(self, images: Several, texts: Several) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        members = zip(self.weights, self.each, images.parts, texts.parts, strict=True)
        weighted = (weight * head.score(i, t) for weight, head, i, t in members)
        return functools.reduce(torch.add, weighted)

    @property
    def each(self) -> list[Similarity]:
        """The heads."""
        return [cast(Similarity, head) for head in self.heads]
