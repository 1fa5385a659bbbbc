"""Karpathy: a Karpathy-split JSON and an image folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from itm_lightning.data.source import PhotoSource, Record
from itm_lightning.errors import InputError, one_line
from itm_lightning.registry import register

# COCO's Karpathy JSON splits the photos that others train on into "train" and "restval".
_SPLITS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}
# libjpeg decodes to an eighth of the size without most of the arithmetic, but reads every byte.
_DRAFT_SIZE = (32, 32)


@register("source")
class Karpathy(PhotoSource):
    """Flickr8k, Flickr30k or COCO as Karpathy & Fei-Fei (2015) split and distributed them.

    The JSON holds ``{"images": [{"filename", "split", "imgid", "sentences": [{"raw", "sentid"}],
    "filepath"?}]}``; ``restval`` counts as train.

    Args:
        root: the dataset's folder.
        annotations: the JSON, relative to ``root`` (or absolute); by default the one file
            ``dataset*.json`` in ``root``.
        images: the image folder, relative to ``root`` (or absolute).
        captions_per_photo: keep the first so many captions of each photo; all by default. COCO's
            protocols keep 5.
    """

    def __init__(
        self,
        root: str,
        annotations: str | None = None,
        images: str = "images",
        captions_per_photo: int | None = None,
    ) -> None:
        self.root = Path(root)
        self.annotations = annotations
        self.images = self.root / images
        self.captions_per_photo = captions_per_photo

    @override
    def records(self, split: str) -> Sequence[Record]:
        if not self.images.is_dir():
            raise InputError(f"image folder {self.images} is missing: set data.source.images")
        wanted = _SPLITS[split]
        path, entries = self._entries
        try:
            return tuple(self._record(entry) for entry in entries if entry["split"] in wanted)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is no Karpathy JSON: an image entry lacks {error}") from error

    @override
    def photo(self, record: Record) -> Image.Image:
        with self._open(record) as image:
            return _decoded(image, record).convert("RGB")

    @override
    def verify(self, record: Record) -> None:
        with self._open(record) as image:
            image.draft("RGB", _DRAFT_SIZE)
            _decoded(image, record)

    def _open(self, record: Record) -> Image.Image:
        path = self.images / record.location
        try:
            return Image.open(path)
        except FileNotFoundError:
            json_path = self._entries[0]
            raise InputError(f"photo {path} is missing, though {json_path} names it") from None
        except OSError as error:
            raise InputError(f"photo {path} does not decode: {one_line(error)}") from error

    @functools.cached_property
    def _entries(self) -> tuple[Path, list[dict[str, Any]]]:
        path = self._annotations_path()
        try:
            return path, json.loads(path.read_text(encoding="utf-8"))["images"]
        except FileNotFoundError:
            raise InputError(
                f"annotations {path} are missing: set data.source.annotations"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not valid JSON: {one_line(error)}") from error
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
        sentences = entry["sentences"][: self.captions_per_photo]
        return Record(
            image_id=entry["imgid"],
            captions=tuple(sentence["raw"] for sentence in sentences),
            caption_ids=tuple(sentence["sentid"] for sentence in sentences),
            location=str(Path(entry.get("filepath", "")) / entry["filename"]),
        )


def _decoded(image: Image.Image, record: Record) -> Image.Image:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"photo {image.filename} does not decode: {one_line(error)}") from error  # type: ignore[attr-defined]
    return image
