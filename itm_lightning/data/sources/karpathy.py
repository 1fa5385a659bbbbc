"""Karpathy: a Karpathy-split JSON and an image folder."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from itm_lightning.data.records import well_formed
from itm_lightning.data.source import Record
from itm_lightning.data.sources.coco_captions import CocoObjects
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.data.sources.tables import USUAL, SplitNames, fault_of, read_json
from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register


@register("source")
class Karpathy(ImageFileSource):
    """Flickr8k, Flickr30k or COCO as Karpathy & Fei-Fei (2015) split and distributed them.

    The JSON holds ``{"images": [{"filename", "split", "imgid", "sentences": [{"raw", "sentid"}],
    "filepath"?, "cocoid"?}]}``; ``restval`` counts as train.

    Args:
        root: the dataset's folder.
        annotations: the JSON, relative to ``root`` (or absolute); by default the one file
            ``dataset*.json`` in ``root``.
        images: the image folder, relative to ``root`` (or absolute).
        texts_per_image: keep only so many first captions of each image; all by default. COCO's
            protocols keep 5.
        instances: COCO's ``instances_*.json``, relative to ``root`` (or absolute): labels and
            boxes of its images.
        allow_outside: whether image files may lie outside of the dataset's folders: by ``..``,
            absolute paths or links.
    """

    def __init__(
        self,
        root: str,
        annotations: str | None = None,
        images: str = "images",
        texts_per_image: Size | None = None,
        instances: list[str] | None = None,
        allow_outside: bool = False,
    ) -> None:
        self.root = Path(root)
        self.annotations = annotations
        self.images = self.root / images
        self.allow_outside = allow_outside
        self._records: dict[str, tuple[Record, ...]] = {}
        self.texts_per_image = texts_per_image
        self.objects = CocoObjects([self.root / path for path in instances or ()])

    @property
    @override
    def image_folder(self) -> Path:
        return self.images

    @property
    @override
    def listing(self) -> Path:
        return self._entries[0]

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self.objects.class_names

    @override
    def records(self, split: str) -> Sequence[Record]:
        if not self.root.is_dir():
            raise InputError(f"dataset folder {self.root} is missing: set data.source.root")
        if not self.images.is_dir():
            raise InputError(f"image folder {self.images} is missing: set data.source.images")
        path, entries = self._entries
        if split not in self._records:
            wanted = USUAL[split]
            found = [self._record(n, entry) for n, entry in entries if entry["split"] in wanted]
            self._records[split] = well_formed(found, path)
        return self._records[split]

    @functools.cached_property
    def _entries(self) -> tuple[Path, list[tuple[int, dict[str, Any]]]]:
        """The JSON file, and its images with their places in it."""
        path = self._annotations_path()
        content = read_json(path, "data.source.annotations")
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list):
            raise InputError(f"{path} is no Karpathy JSON: it has no list 'images'")
        entries = list(enumerate(images))
        for number, entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("split"), str):
                raise InputError(f"{path} is no Karpathy JSON: image {number} lacks 'split'")
        SplitNames().check(Counter(entry["split"] for entry in images), str(path))
        return path, entries

    def _annotations_path(self) -> Path:
        if self.annotations is not None:
            return self.root / self.annotations
        found = sorted(self.root.glob("dataset*.json"))
        if len(found) != 1:
            raise InputError(
                f"{self.root} holds {len(found)} files dataset*.json, not one: "
                "set data.source.annotations"
            )
        return found[0]

    def _record(self, number: int, entry: dict[str, Any]) -> Record:
        try:
            sentences = entry["sentences"][: self.texts_per_image]
            record = Record(
                # the id in COCO's other files
                image_id=entry["cocoid"] if "cocoid" in entry else entry["imgid"],
                texts=tuple(sentence["raw"] for sentence in sentences),
                text_ids=tuple(sentence["sentid"] for sentence in sentences),
                location=str(Path(entry.get("filepath", "")) / entry["filename"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.listing} is no Karpathy JSON: image {number} "
                f"({entry.get('filename', 'without a filename')}) {fault_of(error)}"
            ) from error
        return self.objects.add_to(record, record.image_id)
