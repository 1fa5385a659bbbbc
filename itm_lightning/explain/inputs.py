"""An image as an encoder sees it, and the places that an explanation refers to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from itm_lightning.encoders import ImageEncoder
from itm_lightning.encoders.base import Encoder, Grid, grid_of
from itm_lightning.errors import InputError
from itm_lightning.types import Features
from itm_lightning.utils.images import as_image

_NEAR_THE_EDGE = 0.02  # of the image's side: a crop is measured on pixels of 8 bits


@dataclass(frozen=True)
class RegionImage:
    """An image by its regions, for encoders that read regions, or a frozen trunk's tokens.

    Attributes:
        regions: one row.
        grid: where the regions lie on a grid.
        boxes: else their boxes ``(R, 4)``: left, top, right and bottom as shares of the image's
            width and height; ``None`` where they are unknown.
        image: the image itself; ``None`` where it is unknown.
    """

    regions: Features
    grid: Grid | None = None
    boxes: Tensor | None = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class Seen:
    """An image as an encoder sees it.

    Attributes:
        image: the part of the image that the encoder's transform keeps, in its own resolution.
        inputs: what the encoder reads: pixels ``(1, 3, H, W)`` or regions.
        encoded: the encoder's features of it, one row.
        grid: the places of the tokens.
        boxes: likewise, ``(R, 4)``; see :class:`RegionImage`.
    """

    image: Image.Image
    inputs: Tensor | Features
    encoded: Features
    grid: Grid | None
    boxes: Tensor | None

    @property
    def tokens(self) -> Tensor:
        """The image's tokens ``(1, L, D)``."""
        assert self.encoded.tokens is not None  # checked by :func:`seen`
        return self.encoded.tokens

    @property
    def mask(self) -> Tensor:
        """Their mask ``(1, L)``."""
        assert self.encoded.mask is not None
        return self.encoded.mask

    @property
    def first(self) -> int:
        """Index of the first token that has a place."""
        return self.grid.first if self.grid else 0


def seen(encoder: ImageEncoder, image: Any) -> Seen:
    """An image as the encoder sees it.

    Args:
        encoder: in evaluation mode.
        image: a path, a PIL image, an array or tensor of uint8, or a :class:`RegionImage`.

    Raises:
        InputError: the image cannot be read, or the encoder reads regions and these are none.
    """
    if isinstance(image, RegionImage):
        regions = image.regions.to(encoder.device) if _has_weights(encoder) else image.regions
        picture = image.image or Image.new("RGB", (320, 320), (128, 128, 128))
        if image.grid and image.image:
            picture = _cropped(encoder, picture)
        return Seen(picture, regions, encoder(regions), image.grid, image.boxes)
    picture = as_image(image)
    pixels = encoder.pixels([picture])
    assert isinstance(pixels, Tensor)  # of an image
    encoded = encoder(pixels)
    if encoded.tokens is None:
        raise InputError(f"{type(encoder).__name__} gives no tokens: an image's places are unknown")
    grid = grid_of(encoded.tokens.shape[1], *pixels.shape[-2:])
    return Seen(_cropped(encoder, picture), pixels, encoded, grid, None)


def _has_weights(encoder: Encoder) -> bool:
    return next(encoder.network.parameters(), None) is not None


def _cropped(encoder: ImageEncoder, picture: Image.Image) -> Image.Image:
    left, top, right, bottom = crop_of(encoder.transform(train=False), picture.size)
    width, height = picture.size
    x, y = round(left * width), round(top * height)
    box = x, y, max(x + 1, round(right * width)), max(y + 1, round(bottom * height))
    return picture.crop(box)


def crop_of(
    transform: Callable[[Image.Image], Tensor], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of an image that a transform keeps, measured by an image of coordinates.

    Args:
        transform: resizes and crops; it changes no colours.
        size: width and height of the image.

    Returns:
        Left, top, right and bottom, as shares of the width and height; at least a pixel apart.
    """
    width, height = size
    across = np.linspace(0.5 / width, 1 - 0.5 / width, width)
    down = np.linspace(0.5 / height, 1 - 0.5 / height, height)
    x, y = np.meshgrid(across, down)
    coordinates = np.stack([x, y, np.zeros_like(x)], axis=-1)
    pixels = transform(Image.fromarray((coordinates * 255).round().astype(np.uint8))) / 255
    left, right = _ends(pixels[0].mean(dim=0), width)
    top, bottom = _ends(pixels[1].mean(dim=1), height)
    return left, top, right, bottom


def _ends(coordinates: Tensor, size: int) -> tuple[float, float]:
    """Where pixels begin and end whose centres have these coordinates, which grow evenly.

    Args:
        coordinates: ``(n,)``, as shares of the image's side.
        size: of that side in pixels, at least one of which is kept.
    """
    n = len(coordinates)
    # not at the edges, where a resize that averages sees one side only
    first, last = n // 4, n - 1 - n // 4
    step = float(coordinates[last] - coordinates[first]) / (last - first)
    start = float(coordinates[first]) - (first + 0.5) * step
    start, end = (
        round(e) if abs(e - round(e)) < _NEAR_THE_EDGE else e for e in (start, start + n * step)
    )
    if end - start < 1 / size:  # less than 8 bits tell apart, or a side of one pixel
        start = min(max(0.0, (start + end - 1 / size) / 2), 1 - 1 / size)
        end = start + 1 / size
    return start, end
