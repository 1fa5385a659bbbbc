"""Images in files and in memory: opening, decoding, and saying what is wrong with them."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.foreign_files import regular_file

#: The only formats that are opened. Pillow knows fifty more; EPS would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")

# libjpeg decodes to an eighth of the size without most of the arithmetic, but reads every byte.
_DRAFT_SIZE = (32, 32)

_MOST_SHORT_EDGES = 200  # that a photo may be long

_ORIENTATION = 0x0112  # the EXIF tag
_APP1 = 0xE1  # the kind of segment that holds EXIF
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)  # of baseline, extended and progressive JPEGs
_COLOURS = 3
_PLAIN = {"RGB", "L"}  # modes that a check need not convert: it cannot fail

# The largest values that pixels of more than 8 bits commonly have: white.
_WHITES = {"I": (255, 65535), "F": (1, 255, 65535)}


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # a Pillow before 11.3 has no AVIF


@contextmanager
def _decoding(name: object) -> Iterator[None]:
    """Turns whatever a decoder raises into an InputError that says ``name``."""
    try:
        yield
    except (InputError, FileNotFoundError):
        raise
    except Image.UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise InputError(f"photo {name} does not decode: it is none of {kinds}") from None
    except Exception as error:  # of many types: decoders raise what comes to hand
        raise InputError(f"photo {name} does not decode: {one_line(error)}") from error


def opened(file: Path | bytes, name: object) -> Image.Image:
    """The photo in a file, or in the bytes of one, not decoded yet.

    Raises:
        InputError: it is no photo of :data:`FORMATS`; the message says ``name``.
        FileNotFoundError: there is no such file.
    """
    with _decoding(name):
        source = io.BytesIO(file) if isinstance(file, bytes) else regular_file(file, "photo")
        image = Image.open(source, formats=_formats())
        short, long = sorted(image.size)
        if long > _MOST_SHORT_EDGES * short:  # resized by its short edge, it would fill the memory
            raise ValueError(f"{image.width}×{image.height} pixels are too narrow")
        return image


def decoded(image: Image.Image, name: object) -> Image.Image:
    """The image as :func:`as_rgb` gives it.

    Raises:
        InputError: it does not decode; the message says ``name``.
    """
    with _decoding(name):
        image.load()
        return as_rgb(image)


def image_in(data: bytes, name: object) -> Image.Image:
    """The photo, RGB, in the bytes of its file.

    Raises:
        InputError: it does not decode; the message says ``name``.
    """
    with opened(data, name) as image:
        return decoded(image, name)


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height, if these bytes are a JPEG of three colours without EXIF, which may turn it.

    From memory: ITU-T T.81, annex B: each segment is FF, its kind, and its length in two bytes.
    """
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while len(segment := data[at : at + 10]) == 10 and segment[0] == 0xFF and segment[1] != _APP1:
        if segment[1] in _START_OF_FRAME:
            height, width = (int.from_bytes(segment[k : k + 2], "big") for k in (5, 7))
            return (width, height) if segment[9] == _COLOURS else None
        at += 2 + int.from_bytes(segment[2:4], "big")
    return None


def plain_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels ``(H, W, 3)`` of a JPEG without EXIF, those that :func:`image_in` gives.

    In two thirds of the time that Pillow takes to decode it and to give its pixels away.

    Returns:
        ``None`` if it does not decode, whose reason :func:`image_in` gives; or where torchvision
        has no decoder.
    """
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        # deprecated since torchvision 0.29: where it is no more, Pillow decodes these files, too
        from torchvision.io import ImageReadMode, decode_jpeg

        pixels = decode_jpeg(encoded, ImageReadMode.RGB)
    except (ImportError, AttributeError, RuntimeError):  # AttributeError: built without libjpeg
        return None
    return pixels.permute(1, 2, 0).numpy()


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, upright, as a viewer shows it on white paper.

    It is turned as its EXIF orientation says, what is transparent is white, and pixels of 16 or 32
    bits are scaled to 8 by their range: 16 bits by 65535; integers of 32 bits by 255 or 65535, and
    floats by 1, 255 or 65535, by the first that no pixel exceeds. Pixels beyond that, or below 0,
    are scaled from the least to the most of the image.

    Raises:
        ValueError: a pixel is NaN or infinite, or Pillow cannot convert the image.
    """
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image  # convert would copy it
    if image.mode.startswith(("I", "F")):
        image = _with_8_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        pixels = image.convert("RGBA")
        paper = Image.new("RGBA", pixels.size, "white")
        image = Image.alpha_composite(paper, pixels)
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """How the pixels in the file are to be turned, by EXIF: 1, as they are, to 8."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of many types: the EXIF is damaged, and the pixels need not be
        return 1


def _with_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        raise ValueError("a pixel is NaN or infinite")
    whites = _WHITES.get(image.mode, (65535,))  # I;16 in any order of its bytes
    white = next((limit for limit in whites if low >= 0 and high <= limit), None)
    if white is not None:
        low, high = 0, white
    scaled = (values - low) * (255 / max(high - low, np.finfo(np.float64).tiny))
    return Image.fromarray(scaled.round().astype(np.uint8))


def upright(image: Image.Image, x: float, y: float) -> tuple[float, float]:
    """Where a point of the pixels in a file is once :func:`as_rgb` has turned them.

    Args:
        image: as it was opened.
        x: pixels from the left edge.
        y: pixels from the top edge.
    """
    width, height = image.size
    orientation = _orientation(image)
    if orientation in (2, 3, 7, 8):
        x = width - x
    if orientation in (3, 4, 6, 7):
        y = height - y
    return (y, x) if orientation in (5, 6, 7, 8) else (x, y)


def check_decodes(image: Image.Image, name: object) -> None:
    """Decodes what was opened, as cheaply as finds every error.

    Raises:
        InputError: it does not decode; the message says ``name``.
    """
    with _decoding(name):
        image.draft("RGB", _DRAFT_SIZE)
        image.load()
        if image.mode not in _PLAIN:
            as_rgb(image)


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
                return decoded(image, value)
        except FileNotFoundError:
            raise InputError(f"there is no image file {value}") from None
    if isinstance(value, Image.Image):
        return decoded(value, getattr(value, "filename", "") or "in memory")
    channels_first = not isinstance(value, np.ndarray) and getattr(value, "ndim", 0) == 3
    array = np.asarray(value)
    array = array.transpose(1, 2, 0) if channels_first else array
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(
            f"an image is a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8, "
            f"not {type(value).__name__} of {array.dtype} {array.shape}"
        )
    return as_rgb(Image.fromarray(array))
