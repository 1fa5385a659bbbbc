"""HuggingFace: any dataset with images and captions in its rows that ``datasets`` can load."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.data.source import SPLITS, Record
from itm_lightning.data.sources.hub import Columns, HubSource, Located
from itm_lightning.data.sources.hub_tables import HubTable, Repository
from itm_lightning.data.sources.image_files import OUTSIDE
from itm_lightning.data.sources.tables import SplitNames
from itm_lightning.errors import InputError, Seed, Size
from itm_lightning.registry import register
from itm_lightning.utils.foreign_files import inside, regular_file
from itm_lightning.utils.images import check_decodes, image_in, opened

_CAPTION = {"caption", "captions", "text", "texts", "sentence", "sentences", "raw"}
_CAPTION |= {"description", "descriptions"}
_NO_CAPTION = {"id", "ids", "token", "tokens", "tok", "language", "lang", "url", "file", "path"}
_IMAGE_FILE = ("image", "image_path", "file_name", "filename")
_NUMBERED = re.compile(r"(.*?)_?(\d+)")  # caption_0, caption_1, …
_MOST_HELD_OUT = 1000  # as many images as Flickr30k's val and test have


@register("source")
class HuggingFace(HubSource):
    """A dataset of the Hugging Face Hub, or of your disk, that ``datasets`` loads.

    Each row has an image and captions of it. Rows that have one image together count as one, with
    the captions of all: those of a Hub split whose image files have the same name (and size, unless
    they are streamed). Columns and splits that are not named are found where they are plain:

    - images: the one column of ``datasets``' images or of bytes, or else of image files' names;
    - captions: the one column of text, or of lists of it, whose name says caption, text, sentence,
      raw or description; or a numbered series of them (``caption_0``, ``caption_1``, …);
    - splits: the dataset's own; or a column ``split``, where the dataset has but one.

    A dataset with no val split gets one: a tenth of the images of train, at most 1,000, drawn by
    ``seed``; and as many for test, where there is neither. A warning says so.

    Args:
        repository: repository id on the Hub; a local folder (of Parquet, an imagefolder, or what
            ``save_to_disk`` wrote); or a file ``.parquet``, ``.jsonl``, ``.json`` or ``.csv``.
        revision: branch, tag or commit; unused on disk. Where the repository holds a loading
            script, which ``datasets`` no longer runs, ``refs/convert/parquet`` has its rows.
        config: which of the repository's configurations, where it has several.
        image_column: the column of images.
        text_column: the column of captions, one or a list of them; or several such columns.
        id_column: the column of image ids; ``null`` numbers them.
        text_id_column: the column of caption ids; ``null`` numbers them.
        split_column: the column that says train, val or test.
        splits: which names count as ``train``, ``val`` and ``test``, in place of the usual ones
            (``{"test": ["evaluation"]}``).
        texts_per_image: keep only so many first captions of each image; all by default.
        seed: of the splits that are made.
        streaming: read images from the Hub in the order of the rows and keep nothing on disk;
            training shuffles through a buffer. Images are then not checked beforehand. The object
            is a :class:`StreamedHuggingFace`.
        allow_outside: whether image files that a table names may lie outside of the repository's
            folder: by ``..``, absolute paths or links.
    """

    def __init__(
        self,
        repository: str,
        revision: str | None = None,
        config: str | None = None,
        image_column: str | None = None,
        text_column: str | list[str] | None = None,
        id_column: str | None = None,
        text_id_column: str | None = None,
        split_column: str | None = None,
        splits: dict[str, list[str]] | None = None,
        texts_per_image: Size | None = None,
        seed: Seed = 0,
        *,
        streaming: bool = False,
        allow_outside: bool = False,
    ) -> None:
        columns: Columns = {
            "image_column": image_column,
            "text_column": text_column,
            "id_column": id_column,
            "text_id_column": text_id_column,
            "split_column": split_column,
        }
        at = Repository(repository, revision, config)
        super().__init__(at, columns, splits, texts_per_image, streaming)
        self.seed = seed
        self.allow_outside = allow_outside
        self._names: dict[str, Hashable] = {}

    @override
    def found_columns(self, table: HubTable) -> Columns:
        kinds, names = table.kinds(table.splits()[0]), table.splits()
        found = dict(self.columns)
        if found["image_column"] is None:
            found["image_column"] = _image_column(kinds, self._name)
        if found["text_column"] is None:
            found["text_column"] = _text_columns(kinds, self._name)
        if found["split_column"] is None:
            if kinds.get("split") == "text" and len(self._known(names)) < 2:
                found["split_column"] = "split"
            elif len(names) == 1 and not self._known(names):
                self.splits = SplitNames({"train": names})  # all that there is
        return found

    @override
    def rows_of(self, split: str) -> dict[str, list[Located]]:
        rows = super().rows_of(split)  # which opens the table
        known = self._known(self.table.splits())
        if self.columns["split_column"] is None and "val" not in known and "train" in known:
            for other in SPLITS:
                if other not in rows:
                    rows |= super().rows_of(other)
        if rows.get("val", True) or len(rows.get("train", ())) < 3:
            return rows
        return self._with_held_out(rows)

    @override
    def located(self, hub_split: str) -> Iterator[Located]:
        """The images of a Hub split, in the order of their first rows."""
        names = self.table.image_names(hub_split, str(self.columns["image_column"]))
        images: dict[Hashable, Located] = {}
        for name, (location, rows) in zip(names, super().located(hub_split), strict=True):
            self._names[location] = name
            images.setdefault(location if name is None else name, (location, []))[1].extend(rows)
        yield from images.values()

    def _known(self, names: Sequence[str]) -> set[str]:
        """The splits that the names stand for."""
        return {split for split in SPLITS for name in names if name in self.splits[split]}

    def _with_held_out(self, rows: dict[str, list[Located]]) -> dict[str, list[Located]]:
        """Makes some of train's images the val split, and others test where there is none."""
        train, size = rows["train"], min(_MOST_HELD_OUT, max(1, len(rows["train"]) // 10))
        made = [split for split in ("val", "test") if not rows[split]]
        drawn = random.Random(self.seed).sample(range(len(train)), size * len(made))
        parts = {split: drawn[i * size :][:size] for i, split in enumerate(made)}
        parts["train"] = list(set(range(len(train))) - set(drawn))
        rows |= {name: [train[number] for number in sorted(part)] for name, part in parts.items()}
        sizes = ", ".join(f"{len(rows[split])} for {split}" for split in SPLITS)
        warnings.warn(
            f"{self._name} has no {' and no '.join(made)} split: its {len(train)} images are "
            f"divided by data.source.seed {self.seed}; there are {sizes}",
            stacklevel=2,
        )
        return rows

    @override
    def text_columns(self) -> list[str]:
        return [name for name in super().text_columns() if name != self.columns["image_column"]]

    @override
    def image(self, record: Record) -> Image.Image:
        return image_in(self.encoded(record), self._image_name(record))

    @override
    def verify(self, record: Record) -> None:
        name = self._image_name(record)
        with opened(self.encoded(record), name) as image:
            check_decodes(image, name)

    def encoded(self, record: Record) -> bytes:
        """The bytes of the record's image file."""
        split, _, row = record.location.rpartition("/")
        table, column = self.table, self.columns["image_column"]
        cell: Any = table.cell(split, int(row), str(column))
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, str):
            return self._file_in(cell, record)
        if not isinstance(cell, bytes):
            raise InputError(
                f"photo {self._image_name(record)} is missing: column {column!r} "
                "(data.source.image_column) holds no bytes there, and no name of a file"
            )
        return cell

    def _file_in(self, name: str, record: Record) -> bytes:
        """The bytes of an image file that the table names."""
        import datasets
        import huggingface_hub

        # datasets keeps what it unpacked, and the files of a repository, in its caches
        folder = self.repository.folder
        caches = datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE
        path = folder / name
        if not self.allow_outside:
            inside(path, (folder, *map(Path, caches)), "photo", OUTSIDE)
        try:
            return regular_file(path, "photo").read_bytes()
        except FileNotFoundError:
            raise InputError(
                f"photo {path} is missing, though {self._image_name(record)} names it"
            ) from None

    @override
    def photo_key(self, record: Record) -> Hashable | None:
        return self._names[record.location]

    def _image_name(self, record: Record) -> str:
        return f"{record.location} of {self.repository.name}"


class StreamedHuggingFace(HuggingFace, StreamedSource):
    """The class of ``HuggingFace(streaming=True)``."""

    @override
    def verify(self, record: Record) -> None:
        """Checks nothing: that would read the whole stream. A bad image stops the run."""


HuggingFace.streamed = StreamedHuggingFace


def _image_column(kinds: Mapping[str, str], where: str) -> str:
    found = [name for name, kind in kinds.items() if kind == "image"]
    found = found or [name for name in _IMAGE_FILE if kinds.get(name) == "text"][:1]
    if len(found) > 1 and "image" in found:
        found = ["image"]
    return _the_only(found, "images", "image_column", kinds, where)


def _text_columns(kinds: Mapping[str, str], where: str) -> str | list[str]:
    found = [name for name, kind in kinds.items() if kind == "text" and _is_caption(name)]
    numbered = [match for name in found if (match := _NUMBERED.fullmatch(name))]
    if len(numbered) == len(found) > 1 and len({match[1] for match in numbered}) == 1:
        return [match[0] for match in sorted(numbered, key=lambda match: int(match[2]))]
    return _the_only(found, "captions", "text_column", kinds, where)


def _is_caption(name: str) -> bool:
    words = {word for word in re.split(r"[^a-z]+", name.lower()) if word}
    return bool(words & _CAPTION) and not words & _NO_CAPTION


def _the_only(
    found: Sequence[str], what: str, flag: str, kinds: Mapping[str, str], where: str
) -> str:
    if len(found) == 1:
        return found[0]
    several = f"several columns that may hold {what} ({', '.join(found)})"
    raise InputError(
        f"{where} has {several if found else f'no column that plainly holds {what}'}: set "
        f"data.source.{flag} to one of {', '.join(kinds)}"
    )
