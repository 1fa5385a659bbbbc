"""SCAN's text files: one text a line, optionally one id a line, and the row of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itm_lightning.data.sources.precomputed.files import RowRecord, SplitFiles, read_lines
from itm_lightning.data.sources.precomputed.regions import Regions
from itm_lightning.errors import InputError

_COMPARED = 256  # numbers of a row: a kilobyte, in which any two images differ


def read_scan(files: SplitFiles, regions: Regions) -> list[RowRecord]:
    """The records of a split as Lee et al. (2018) distributed their regions.

    The number ``M`` of texts is a multiple of the number ``N`` of images, and they are in the same
    order. Some files repeat an image's row for each of its texts (``M`` rows); repeated rows are
    one image.

    Raises:
        InputError: the numbers of rows and lines do not fit, a line is empty, or an image is listed
            twice.
    """
    texts = read_lines(files.texts)
    repeats = _repeats(regions) if len(regions) == len(texts) else 1
    images = len(regions) // repeats
    each, rest = divmod(len(texts), images)
    if rest or not each:
        raise InputError(
            f"{files.texts} has {len(texts)} captions, no whole multiple of the {images} "
            f"photos in {regions.path.name}"
        )
    names, text_ids = _ids(files, images, each)
    image_ids = _image_ids(names, files.ids) or range(images)
    return [
        RowRecord(
            image_id=image_ids[image],
            texts=tuple(texts[image * each : (image + 1) * each]),
            text_ids=tuple(text_ids[image * each : (image + 1) * each]),
            location=names[image] if names else f"{files.prefix}/{image}",
            prefix=files.prefix,
            row=image * repeats,
        )
        for image in range(images)
    ]


def _repeats(regions: Regions) -> int:
    """How many successive rows belong to one image."""
    numbers = regions.first_numbers(_COMPARED)
    differs = (numbers != numbers[0]).any(axis=1)
    repeats = max(1, int(differs.argmax())) if differs.any() else len(numbers)
    rows = np.arange(len(numbers))
    wrong = (numbers != numbers[rows - rows % repeats]).any(axis=1)
    if wrong.any() or len(numbers) % repeats:
        row = int(wrong.argmax()) if wrong.any() else len(numbers) - 1
        raise InputError(
            f"{regions.path}: the first {repeats} of {len(numbers)} rows are one photo, but not "
            f"every {repeats} rows after them (see row {row})"
        )
    return repeats


def _ids(files: SplitFiles, images: int, each: int) -> tuple[list[str], list[int]]:
    """The images' names (empty where there are none) and the texts' ids."""
    counted = list(range(images * each))
    if not files.ids.exists():
        return [], counted
    lines = read_lines(files.ids)
    if len(lines) == images:
        return lines, counted
    if len(lines) != images * each:
        raise InputError(
            f"{files.ids} has {len(lines)} lines; the {images} photos and {images * each} "
            f"captions need {images} or {images * each}"
        )
    if lines == [line for line in lines[::each] for _ in range(each)]:
        return lines[::each], counted
    if len(set(lines)) == len(lines) and all(map(_is_number, lines)):
        return [], [int(line) for line in lines]
    raise InputError(
        f"{files.ids}: its {len(lines)} ids are neither the same for each {each} captions of a "
        "photo nor all different numbers"
    )


def _image_ids(names: list[str], path: Path) -> list[int]:
    """The names as numbers; empty where they are not numbers."""
    first: dict[str, int] = {}
    for image, name in enumerate(names):
        if first.setdefault(name, image) != image:
            raise InputError(f"{path}: photo {name} is listed twice")
    return [int(name) for name in names] if all(map(_is_number, names)) else []


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
