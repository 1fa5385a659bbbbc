"""Scores of a block of photos and captions, in full precision."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import Spread
from itm_lightning.errors import InputError
from itm_lightning.precision import at_least_float32
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features, Rows

LENGTH_GROUPS = 8  # with captions of 8 to 17 words, about 5 % of what is scored is padding
_FEWEST_CAPTIONS = 8  # of a group: fewer cost more in calls than they save in padding


@dataclass(frozen=True)
class Captions:
    """Captions of similar length, prepared.

    Attributes:
        prepared: what the head made of them.
        numbers: ``(m,)`` int64, which captions they are, ascending.
    """

    prepared: Rows
    numbers: Tensor

    def without(self, first: int, stop: int) -> Iterator[Captions]:
        """The same without those numbered from ``first`` to before ``stop``, in up to two parts.

        Parts of what there is, not copies.
        """
        left = int((self.numbers < first).sum())
        right = int((self.numbers < stop).sum())
        for rows in (slice(None, left), slice(right, None)):
            if len(self.numbers[rows]):
                yield Captions(self.prepared[rows], self.numbers[rows])


class Scorer:
    """Prepares photos and captions, and scores them: without autocast, in float32 at least.

    It works on copies of features: where in memory a row lies can change a product's last bits.

    Args:
        similarity: the head.
        device: where to score; what is prepared is moved there first.
    """

    def __init__(self, similarity: Similarity, device: torch.device) -> None:
        self._similarity, self._device = similarity, device

    def photos(self, features: Features) -> Rows:
        """Prepares photos."""
        features = features[torch.arange(len(features))]
        with torch.autocast(self._device.type, enabled=False):
            return self._similarity.prepare_images(self._ready(features))

    def captions(self, features: Features, start: int) -> list[Captions]:
        """Prepares captions numbered from ``start``, in groups of similar length.

        So little of the work is spent on padding.
        """
        numbers = torch.arange(len(features), device=features.device)
        groups: tuple[Tensor, ...] = (numbers,)
        if features.mask is not None and not features.mask.all():
            order = features.mask.sum(dim=1).argsort(stable=True)
            n_groups = min(LENGTH_GROUPS, -(-len(order) // _FEWEST_CAPTIONS))
            groups = tuple(group.sort().values for group in order.tensor_split(n_groups))
        parts = [features[group] for group in groups]
        with torch.autocast(self._device.type, enabled=False):
            return [
                Captions(
                    self._similarity.prepare_texts(self._ready(part)),
                    (group + start).to(self._device),
                )
                for part, group in zip(parts, groups, strict=True)
            ]

    def score(self, photos: Rows, captions: Captions) -> Tensor:
        """Scores ``(n, m)`` in float32.

        Raises:
            InputError: one is NaN.
        """
        with torch.autocast(self._device.type, enabled=False):
            scores = self._similarity.score(photos, captions.prepared).float()
        # one pass, where isnan().any() takes two: a sum is NaN where an element is, or where
        # infinities of both signs meet
        if scores.sum().isnan() and scores.isnan().any():
            raise InputError(
                f"{type(self._similarity).__name__} gave a NaN score: training has diverged, or "
                "the features hold NaN"
            )
        return scores

    def score_all(self, photos: Rows, groups: list[Captions]) -> Tensor:
        """Scores of several groups, their captions in the order of their numbers."""
        if len(groups) == 1:
            return self.score(photos, groups[0])
        order = torch.cat([group.numbers for group in groups]).argsort()
        return torch.cat([self.score(photos, group) for group in groups], dim=1)[:, order]

    def _ready(self, features: Features) -> Features:
        """Without needless padding, where scores are made."""
        features = features.trim().to(self._device)
        tokens, pooled = (
            None if values is None else at_least_float32(values)
            for values in (features.tokens, features.pooled)
        )
        return Features(tokens, features.mask, pooled)


def scoring_device(similarity: Similarity, images: Spread) -> torch.device:
    """The head's; where it has no weights, that of the features."""
    weights = next(itertools.chain(similarity.parameters(), similarity.buffers()), None)
    return images.device if weights is None else weights.device
