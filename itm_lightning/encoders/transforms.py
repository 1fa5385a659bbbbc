"""From image to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.transforms import InterpolationMode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ToPixels:
    """RGB image → ``geometry`` → uint8 ``(3, H, W)``; in memory, the channels are last.

    The encoder normalises whole batches: bytes are a quarter of what floats are between processes.
    """

    geometry: Sequence[nn.Module]

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels of an image."""
        for step in self.geometry:
            image = step(image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def crop_and_mirror(size: tuple[int, int], interpolation: InterpolationMode) -> list[nn.Module]:
    """Augmentation: a random part of the image, at random mirrored, as ``size`` (height, width)."""
    from torchvision.transforms import v2

    # at least half the image: what the text speaks of should still be in it
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=interpolation)
    return [crop, v2.RandomHorizontalFlip()]
