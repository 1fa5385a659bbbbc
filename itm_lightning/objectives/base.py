"""What every objective on the score matrix is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from itm_lightning.part import Part


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
