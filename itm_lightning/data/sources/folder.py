"""Folder: your own images, with a table of captions beside them."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from itm_lightning.data.records import well_formed
from itm_lightning.data.source import Record
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.data.sources.tables import (
    READERS,
    USUAL,
    Row,
    SplitNames,
    as_texts,
    cell,
    numbered_rows,
)
from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register


@dataclass
class _ImageEntry:
    split: str
    texts: list[Any] = field(default_factory=list)


@register("source")
class Folder(ImageFileSource):
    """Images in a folder and their captions in ``metadata.jsonl``, ``.csv`` or ``.parquet``.

    The layout is that of the Hub's ``imagefolder``: there is a table in ``root``, or one in each of
    its sub-folders. Every row names an image file, relative to the table, and its caption or a list
    of captions, which may be empty. Several rows may give captions of one file. The split is in a
    column; without such a column it is the first folder of the image's path under ``root``
    (``train/0001.jpg``).

    Args:
        root: the folder.
        metadata: a table elsewhere or under another name, such as a CSV of path and caption;
            relative to ``root`` (or absolute), and its paths are relative to ``root``.
        file_column: the column of image paths.
        text_column: the column of captions.
        split_column: the column of splits, where there is one.
        splits: which names count as ``train``, ``val`` and ``test``, in place of the usual ones
            (``{"test": ["evaluation"]}``).
        texts_per_image: keep only so many first captions of each image; all by default.
        allow_outside: whether image files may lie outside of the dataset's folders: by ``..``,
            absolute paths or links.
    """

    def __init__(
        self,
        root: str,
        metadata: str | None = None,
        file_column: str = "file_name",
        text_column: str = "caption",
        split_column: str = "split",
        splits: dict[str, list[str]] | None = None,
        texts_per_image: Size | None = None,
        allow_outside: bool = False,
    ) -> None:
        self.root = Path(root)
        self.metadata = metadata
        self.file_column = file_column
        self.text_column = text_column
        self.split_column = split_column
        self.splits = SplitNames(splits)
        self.allow_outside = allow_outside
        self.texts_per_image = texts_per_image

    @property
    @override
    def image_folder(self) -> Path:
        return self.root

    @property
    @override
    def listing(self) -> str:
        return " or ".join(map(str, self._tables()))

    @override
    def records(self, split: str) -> Sequence[Record]:
        return self._records[split]

    @functools.cached_property
    def _records(self) -> dict[str, tuple[Record, ...]]:
        images = self._images()
        self.splits.check(Counter(image.split for image in images.values()), self.listing)
        text_ids = itertools.count()
        records: dict[str, list[Record]] = {split: [] for split in USUAL}
        for number, (location, image) in enumerate(images.items()):
            texts = tuple(image.texts[: self.texts_per_image])
            ids = tuple(itertools.islice(text_ids, len(texts)))
            for split in USUAL:
                if image.split in self.splits[split]:
                    records[split].append(Record(number, texts, ids, location))
        return {split: well_formed(found, self.listing) for split, found in records.items()}

    def _images(self) -> dict[str, _ImageEntry]:
        """Split and captions of each image, by its path under the root."""
        images: dict[str, _ImageEntry] = {}
        for table in self._tables():
            folder = Path() if self.metadata else table.parent.relative_to(self.root)
            for where, row in numbered_rows(table):
                file = cell(row, self.file_column, "data.source.file_column", where)
                texts = cell(row, self.text_column, "data.source.text_column", where)
                if not isinstance(file, str) or not file:
                    raise InputError(
                        f"{where} has {file!r} in column {self.file_column!r} "
                        "(data.source.file_column), no file name"
                    )
                location = (folder / file).as_posix()
                split = self._split(row, location, where)
                image = images.setdefault(location, _ImageEntry(split))
                if image.split != split:
                    raise InputError(
                        f"{where} puts photo {location} into split {split}, "
                        f"another row into {image.split}"
                    )
                image.texts.extend(as_texts(texts))
        return images

    def _split(self, row: Row, location: str, where: str) -> str:
        if self.split_column in row:
            return str(row[self.split_column])
        folder, _, name = location.partition("/")
        if not name:
            raise InputError(
                f"{where} says no split: it has no column {self.split_column!r} "
                f"(data.source.split_column), only {', '.join(map(str, row))}, "
                "and the photo is in no folder train, val or test"
            )
        return folder

    def _tables(self) -> list[Path]:
        if not self.root.is_dir():
            raise InputError(f"dataset folder {self.root} is missing: set data.source.root")
        if self.metadata is not None:
            return [self.root / self.metadata]
        names = [f"metadata{suffix}" for suffix in READERS]
        for pattern in ("{}", "*/{}"):
            found = [path for name in names for path in self.root.glob(pattern.format(name))]
            if len({path.parent for path in found}) < len(found):
                raise InputError(
                    f"{found[0].parent} holds several of {', '.join(names)}: keep one of them"
                )
            if found:
                return sorted(found)
        raise InputError(
            f"neither {self.root} nor its folders hold {', '.join(names)}: set data.source.metadata"
        )
