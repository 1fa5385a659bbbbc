"""Image files: opening them, decoding them, and messages that say what is wrong with them."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from PIL import Image
from typing_extensions import override

from itm_lightning.data.source import ImageSource, Record
from itm_lightning.errors import InputError
from itm_lightning.utils.images import as_rgb, check_decodes, decoded, opened


class ImageFileSource(ImageSource):
    """A dataset of image files: a record's ``location`` is the file's path under a folder."""

    @property
    @abstractmethod
    def image_folder(self) -> Path:
        """The folder that the records' locations start from."""

    @property
    @abstractmethod
    def listing(self) -> object:
        """The file or table that lists the images, for error messages."""

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
