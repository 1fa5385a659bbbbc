"""COCO's object categories, from ``instances_*.json``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from itm_lightning.data.json_files import read_json
from itm_lightning.data.source import Box, Record
from itm_lightning.errors import InputError


class CocoObjects:
    """Names and boxes of the things in COCO's photos, in its 80 categories.

    The files are read when the first photo is asked for; those of a whole COCO take half a minute.

    Args:
        paths: ``instances_*.json`` of all splits that are used. Without any, photos have no labels.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def on(self, record: Record, coco_id: int) -> Record:
        """The record with labels (each name once) and boxes of COCO's photo ``coco_id``.

        Raises:
            InputError: a file is missing or malformed, or none lists the photo.
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
    def _boxes(self) -> dict[int, list[Box]]:
        boxes: dict[int, list[Box]] = {}
        for path in self.paths:
            content = read_json(path, "data.source.instances")
            try:
                names = {category["id"]: category["name"] for category in content["categories"]}
                boxes |= {image["id"]: [] for image in content["images"]}
                for thing in content["annotations"]:
                    left, top, width, height = thing["bbox"]
                    name = names[thing["category_id"]]
                    box = Box(name, left, top, left + width, top + height)
                    boxes[thing["image_id"]].append(box)
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{path} is no instances JSON of COCO: an entry lacks {error}"
                ) from error
        return boxes


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
