"""Image files: opening them, decoding them, and messages that say what is wrong with them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import Image
from typing_extensions import override

from itm_lightning.data.source import Box, ImageSource, Record
from itm_lightning.errors import InputError
from itm_lightning.utils.foreign_files import inside, regular_file
from itm_lightning.utils.images import check_decodes, decoded, opened, upright

OUTSIDE = "move it there, or set data.source.allow_outside: true if you trust the dataset"


class ImageFileSource(ImageSource):
    """A dataset of image files: a record's ``location`` is the file's path under a folder."""

    allow_outside = False
    """Whether a file may lie outside of the folder: by ``..``, an absolute path or a link."""

    @property
    @abstractmethod
    def image_folder(self) -> Path:
        """The folder that the records' locations start from."""

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The folders in which files must lie, unless they may lie outside."""
        return (self.image_folder,)

    @property
    @abstractmethod
    def listing(self) -> object:
        """The file or table that lists the images, for error messages."""

    @override
    def image(self, record: Record) -> Image.Image:
        with self._open(record) as image:
            return decoded(image, self._path(record))

    @override
    def verify(self, record: Record) -> None:
        with self._open(record) as image:
            check_decodes(image, self._path(record))

    @override
    def encoded(self, record: Record) -> bytes:
        with self._naming(record) as path:
            return regular_file(path, "photo").read_bytes()

    @override
    def upright(self, record: Record) -> Record:
        if not record.boxes:
            return record
        with self._open(record) as image:
            return replace(record, boxes=tuple(_upright(image, box) for box in record.boxes))

    @override
    def photo_key(self, record: Record) -> Hashable:
        return os.path.normpath(os.path.join(self.image_folder, record.location))

    def _path(self, record: Record) -> Path:
        return self.image_folder / record.location

    def _open(self, record: Record) -> Image.Image:
        with self._naming(record) as path:
            return opened(path, path)

    @contextmanager
    def _naming(self, record: Record) -> Iterator[Path]:
        """The path of the record's file, once it is known to lie inside; errors name it."""
        path = self._path(record)
        if not self.allow_outside:
            inside(path, self.image_folders, "photo", OUTSIDE)
        try:
            yield path
        except FileNotFoundError:
            raise InputError(f"photo {path} is missing, though {self.listing} names it") from None


def _upright(image: Image.Image, box: Box) -> Box:
    left, top = upright(image, box.left, box.top)
    right, bottom = upright(image, box.right, box.bottom)
    return Box(box.name, min(left, right), min(top, bottom), max(left, right), max(top, bottom))
