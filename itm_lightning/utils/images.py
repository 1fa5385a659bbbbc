"""Images in files and in memory: opening, decoding, and saying what is wrong with them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from itm_lightning.errors import InputError, one_line

# libjpeg decodes to an eighth of the size without most of the arithmetic, but reads every byte.
_DRAFT_SIZE = (32, 32)


def opened(file: Path | bytes, name: object) -> Image.Image:
    """The photo in a file, or in the bytes of one, not decoded yet.

    Raises:
        InputError: it is no photo; the message says ``name``.
        FileNotFoundError: there is no such file.
    """
    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"photo {name} does not decode: {one_line(error)}") from error


def decoded(image: Image.Image, name: object) -> Image.Image:
    """The image with its pixels.

    Raises:
        InputError: it does not decode; the message says ``name``.
    """
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"photo {name} does not decode: {one_line(error)}") from error
    return image


def image_in(data: bytes, name: object) -> Image.Image:
    """The photo, RGB, in the bytes of its file.

    Raises:
        InputError: it does not decode; the message says ``name``.
    """
    with opened(data, name) as image:
        return as_rgb(decoded(image, name))


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB; PIL would copy one that is."""
    return image if image.mode == "RGB" else image.convert("RGB")


def check_decodes(image: Image.Image, name: object) -> None:
    """Decodes what was opened, as cheaply as finds every error.

    Raises:
        InputError: it does not decode; the message says ``name``.
    """
    image.draft("RGB", _DRAFT_SIZE)
    decoded(image, name)


def as_image(value: Any) -> Image.Image:
    """An RGB image of a path, a PIL image, or an array.

    Args:
        value: a path; an image; or an array or tensor of uint8, ``(H, W)``, ``(H, W, 3)`` or, of a
            tensor, ``(3, H, W)``.

    Raises:
        InputError: it is none of these, or a file that is missing or does not decode.
    """
    if isinstance(value, str | Path):
        try:
            with opened(Path(value), value) as image:
                return as_rgb(decoded(image, value))
        except FileNotFoundError:
            raise InputError(f"there is no image file {value}") from None
    if isinstance(value, Image.Image):
        return as_rgb(value)
    channels_first = not isinstance(value, np.ndarray) and getattr(value, "ndim", 0) == 3
    array = np.asarray(value)
    array = array.transpose(1, 2, 0) if channels_first else array
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(
            f"an image is a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8, "
            f"not {type(value).__name__} of {array.dtype} {array.shape}"
        )
    return as_rgb(Image.fromarray(array))
