"""From images to pixels."""

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
    """Makes uint8 pixels ``(3, H, W)`` of an RGB image; in memory, the channels are last.

    The encoder normalises whole batches later: a worker process sends a quarter of the bytes that
    float32 pixels would take.

    Attributes:
        geometry: transforms of a PIL image, applied in their order.
    """

    geometry: Sequence[nn.Module]

    def keeps(self, size: tuple[int, int]) -> bool:
        """Whether it leaves all images of this width and height as they are."""
        from torchvision.transforms import v2

        width, height = size
        same = [[height, width], [height]] if height == width else [[height, width]]
        kinds = v2.Resize, v2.CenterCrop
        return all(isinstance(step, kinds) and list(step.size) in same for step in self.geometry)

    def resized(self, image: Image.Image) -> Image.Image:
        """The image of which :meth:`__call__` makes pixels."""
        for step in self.geometry:
            image = step(image)
        return image

    def __call__(self, image: Image.Image) -> Tensor:
        """The pixels of an image."""
        return torch.from_numpy(np.array(self.resized(image))).permute(2, 0, 1)


def crop_and_mirror(size: tuple[int, int], interpolation: InterpolationMode) -> list[nn.Module]:
    """Augmentation: a random crop, mirrored with chance 0.5, resized to ``(height, width)``."""
    from torchvision.transforms import v2

    # at least half the image, so that what the text mentions is likely to remain
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=interpolation)
    return [crop, v2.RandomHorizontalFlip()]
