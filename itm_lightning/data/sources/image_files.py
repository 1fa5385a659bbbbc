"""Photos in files: opening, decoding, and saying what is wrong with them."""

from __future__ import annotations

import io
from abc import abstractmethod
from pathlib import Path

from PIL import Image
from typing_extensions import override

from itm_lightning.data.source import ImageSource, Record
from itm_lightning.errors import InputError, one_line

# libjpeg decodes to an eighth of the size without most of the arithmetic, but reads every byte.
_DRAFT_SIZE = (32, 32)


class ImageFileSource(ImageSource):
    """A dataset whose photos are files: a record's ``location`` is its path under a folder."""

    @property
    @abstractmethod
    def image_folder(self) -> Path:
        """The folder that the records' locations start from."""

    @property
    @abstractmethod
    def listing(self) -> object:
        """The file or table that names the photos, for error messages."""

    @override
    def image(self, record: Record) -> Image.Image:
        with self._open(record) as image:
            return as_rgb(decoded(image, self._path(record)))

    @override
    def verify(self, record: Record) -> None:
        with self._open(record) as image:
            check_decodes(image, self._path(record))

    def _path(self, record: Record) -> Path:
        return self.image_folder / record.location

    def _open(self, record: Record) -> Image.Image:
        path = self._path(record)
        try:
            return opened(path, path)
        except FileNotFoundError:
            raise InputError(f"photo {path} is missing, though {self.listing} names it") from None


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
