"""COCO's own annotation files: captions, and the objects in its images."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from itm_lightning.data.records import well_formed
from itm_lightning.data.source import Box, Record
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.data.sources.tables import fault_of, read_json
from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register


class CocoObjects:
    """Labels and boxes of the objects in COCO's images, in its 80 categories.

    The files are read when they are first needed; all of COCO's take half a minute.

    Args:
        paths: ``instances_*.json`` of all splits that are used; without any, there are no labels.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def add_to(self, record: Record, coco_id: int) -> Record:
        """The record with labels (each name once) and boxes of COCO's image ``coco_id``.

        Raises:
            InputError: a file is missing or malformed, or no file lists the image.
        """
        if not self.paths:
            return record
        boxes = self._boxes.get(coco_id)
        if boxes is None:
            raise InputError(
                f"no file of data.source.instances lists photo {coco_id} ({record.location}): "
                f"give the instances_*.json of every split (there is {_names(self.paths)})"
            )
        labels = tuple(dict.fromkeys(box.name for box in boxes))
        return replace(record, labels=labels, boxes=tuple(boxes))

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the categories, in the order of the files.

        Raises:
            InputError: a file is missing or malformed.
        """
        return tuple(self._names_and_boxes[0])

    @property
    def _boxes(self) -> dict[int, list[Box]]:
        return self._names_and_boxes[1]

    @functools.cached_property
    def _names_and_boxes(self) -> tuple[dict[str, None], dict[int, list[Box]]]:
        """The categories' names, as an ordered set, and the boxes of each image by its id."""
        all_names: dict[str, None] = {}
        boxes: dict[int, list[Box]] = {}
        for path in self.paths:
            content = read_json(path, "data.source.instances")
            try:
                names = {category["id"]: category["name"] for category in content["categories"]}
                all_names |= dict.fromkeys(names.values())
                boxes |= {image["id"]: [] for image in content["images"]}
                for thing in content["annotations"]:
                    left, top, width, height = thing["bbox"]
                    name = names[thing["category_id"]]
                    box = Box(name, left, top, left + width, top + height)
                    boxes[thing["image_id"]].append(box)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(
                    f"{path} is no instances JSON of COCO: an entry {fault_of(error)}"
                ) from error
        return all_names, boxes


_TEST = "annotations/captions_test2017.json"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


@register("source")
class CocoCaptions(ImageFileSource):
    """COCO (Lin et al. 2014; Chen et al. 2015): official ``captions_*.json`` and image folders.

    The defaults fit the archives of COCO 2017, unpacked side by side. Its test captions are not
    public: where ``annotations/captions_test2017.json`` is missing, there is no test split. For the
    splits of the retrieval papers take :class:`Karpathy` or :class:`Coco` instead.
    Image and caption ids are COCO's own.

    Args:
        root: the dataset's folder; the paths below are relative to it (or absolute).
        train: ``captions_*.json`` of the train split; ``None`` where there is none.
        val: the same of the val split.
        test: the same of the test split; by default ``annotations/captions_test2017.json`` if it
            is there.
        train_images: the folder of the train images.
        val_images: the folder of the val images.
        test_images: the folder of the test images.
        instances: ``instances_*.json``: labels and boxes in COCO's 80 categories.
        texts_per_image: keep only so many first captions of each image; all by default. COCO's
            protocols keep 5.
        allow_outside: whether image files may lie outside of the dataset's folders: by ``..``,
            absolute paths or links.
    """

    def __init__(
        self,
        root: str,
        train: str | None = "annotations/captions_train2017.json",
        val: str | None = "annotations/captions_val2017.json",
        test: str | None = None,
        train_images: str = "train2017",
        val_images: str = "val2017",
        test_images: str = "test2017",
        instances: list[str] | None = None,
        texts_per_image: Size | None = None,
        allow_outside: bool = False,
    ) -> None:
        self.root = Path(root)
        if test is None and (self.root / _TEST).exists():
            test = _TEST
        self.files = {"train": train, "val": val, "test": test}
        self.folders = {"train": train_images, "val": val_images, "test": test_images}
        self.objects = CocoObjects([self.root / path for path in instances or ()])
        self.allow_outside = allow_outside
        self.texts_per_image = texts_per_image
        self._records: dict[str, tuple[Record, ...]] = {}

    @property
    @override
    def image_folder(self) -> Path:
        return self.root

    @property
    @override
    def image_folders(self) -> tuple[Path, ...]:
        return tuple(self.root / folder for folder in self.folders.values())

    @property
    @override
    def listing(self) -> str:
        return " or ".join(path for path in self.files.values() if path)

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self.objects.class_names

    @override
    def records(self, split: str) -> Sequence[Record]:
        if split not in self._records:
            self._records[split] = self._read(split)
        return self._records[split]

    def _read(self, split: str) -> tuple[Record, ...]:
        file = self.files[split]
        if file is None:
            return ()
        folder = self.root / self.folders[split]
        if not self.root.is_dir():
            raise InputError(f"dataset folder {self.root} is missing: set data.source.root")
        if not folder.is_dir():
            raise InputError(f"image folder {folder} is missing: set data.source.{split}_images")
        path = self.root / file
        content = read_json(path, f"data.source.{split}")
        try:
            texts = _texts(content, path)
            records = [
                self._record(split, image["id"], image["file_name"], texts)
                for image in content["images"]
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no captions JSON of COCO: it {fault_of(error)}") from error
        return well_formed(records, path)

    def _record(
        self, split: str, number: int, name: str, texts: dict[int, dict[int, str]]
    ) -> Record:
        kept = list(texts.get(number, {}).items())[: self.texts_per_image]
        record = Record(
            image_id=number,
            texts=tuple(text for _, text in kept),
            text_ids=tuple(text_id for text_id, _ in kept),
            location=str(Path(self.folders[split]) / name),
        )
        return self.objects.add_to(record, number)


def _texts(content: dict[str, Any], path: Path) -> dict[int, dict[int, str]]:
    """Captions by image id and caption id."""
    images = {image["id"] for image in content["images"]}
    texts: dict[int, dict[int, str]] = defaultdict(dict)
    for entry in content["annotations"]:
        if entry["image_id"] not in images:
            raise InputError(
                f"{path}: caption {entry['id']} is of photo {entry['image_id']}, "
                "which is not among its images: mend either"
            )
        texts[entry["image_id"]][entry["id"]] = entry["caption"]
    return texts
