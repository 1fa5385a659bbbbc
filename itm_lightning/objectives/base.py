"""What every objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.part import Part
from itm_lightning.types import Features


class Objective(Part, nn.Module, ABC):
    """Learns from the scores of a batch in which photo ``i`` and caption ``i`` belong together."""

    @abstractmethod
    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            scores: ``(B, B)`` float, photos by captions; the pairs lie on the diagonal.
            image_ids: ``(B,)`` int64, the photo of each row. Without ids every off-diagonal pair
                counts as a negative.
            text_image_ids: ``(B,)`` int64, the photo of each column's caption.
        """

    def loss(
        self,
        scores: Tensor,
        images: Features,
        texts: Features,
        image_ids: Tensor | None = None,
        text_image_ids: Tensor | None = None,
    ) -> Tensor:
        """The loss, a scalar, of all there is to learn from; here, of the scores alone.

        Args:
            scores: as in :meth:`forward`.
            images: the photos, in the common space or where the head lifts them from there.
            texts: the captions, likewise.
            image_ids: as in :meth:`forward`.
            text_image_ids: as in :meth:`forward`.
        """
        return self(scores, image_ids, text_image_ids)


class FeatureObjective(Objective):
    """Learns from the features of a batch; a subclass writes :meth:`loss`."""

    @override
    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        raise InputError(f"{type(self).__name__} learns from features, not scores: call its loss()")

    @abstractmethod
    @override
    def loss(
        self,
        scores: Tensor,
        images: Features,
        texts: Features,
        image_ids: Tensor | None = None,
        text_image_ids: Tensor | None = None,
    ) -> Tensor: ...


def negatives_mask(
    scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
) -> Tensor:
    """``(B, B)`` bool, ``True`` where photo and caption do not belong together.

    The same photo may stand in a batch twice, with two of its captions: such off-diagonal pairs
    are no negatives.
    """
    if image_ids is None or text_image_ids is None:
        return ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return image_ids[:, None] != text_image_ids[None, :]
