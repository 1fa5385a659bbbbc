"""Karpathy: a Karpathy-split JSON and an image folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from itm_lightning.data.source import Record
from itm_lightning.data.sources.coco_captions import CocoObjects
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.data.sources.tables import USUAL, read_json
from itm_lightning.data.validation import well_formed
from itm_lightning.errors import InputError
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
    """

    def __init__(
        self,
        root: str,
        annotations: str | None = None,
        images: str = "images",
        texts_per_image: int | None = None,
        instances: list[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.annotations = annotations
        self.images = self.root / images
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
        if not self.images.is_dir():
            raise InputError(f"image folder {self.images} is missing: set data.source.images")
        wanted = USUAL[split]
        path, entries = self._entries
        try:
            found = [self._record(entry) for entry in entries if entry["split"] in wanted]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is no Karpathy JSON: an image entry lacks {error}") from error
        return well_formed(found, path)

    @functools.cached_property
    def _entries(self) -> tuple[Path, list[dict[str, Any]]]:
        path = self._annotations_path()
        try:
            return path, read_json(path, "data.source.annotations")["images"]
        except (KeyError, TypeError):
            raise InputError(f"{path} is no Karpathy JSON: it has no list 'images'") from None

    def _annotations_path(self) -> Path:
        if self.annotations is not None:
            return self.root / self.annotations
        if not self.root.is_dir():
            raise InputError(f"dataset folder {self.root} is missing: set data.source.root")
        found = sorted(self.root.glob("dataset*.json"))
        if len(found) != 1:
            raise InputError(
                f"{self.root} holds {len(found)} files dataset*.json, not one: "
                "set data.source.annotations"
            )
        return found[0]

    def _record(self, entry: dict[str, Any]) -> Record:
        sentences = entry["sentences"][: self.texts_per_image]
        record = Record(
            image_id=entry.get("cocoid", entry["imgid"]),  # the id in COCO's other files
            texts=tuple(sentence["raw"] for sentence in sentences),
            text_ids=tuple(sentence["sentid"] for sentence in sentences),
            location=str(Path(entry.get("filepath", "")) / entry["filename"]),
        )
        return self.objects.add_to(record, record.image_id)
