"""From photo to pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.transforms import InterpolationMode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_pixels(geometry: Sequence[nn.Module]) -> Callable[[Image.Image], Tensor]:
    """RGB photo → ``geometry`` → uint8 ``(3, H, W)``.

    The encoder normalises whole batches: bytes are a quarter of what floats are between processes.
    """
    from torchvision.transforms import v2

    return v2.Compose([*geometry, v2.PILToTensor()])


def crop_and_mirror(size: tuple[int, int], interpolation: InterpolationMode) -> list[nn.Module]:
    """Augmentation: a random part of the photo, at random mirrored, as ``size`` (height, width)."""
    from torchvision.transforms import v2

    # at least half the photo: what the caption speaks of should still be in it
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=interpolation)
    return [crop, v2.RandomHorizontalFlip()]
