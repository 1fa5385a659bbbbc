"""Checks of a split before any long work."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm.auto import tqdm

from itm_lightning.data.source import Record, Source
from itm_lightning.errors import InputError

_SPLITS = ("train", "val", "test")


def checked_records(source: Source, split: str, on_bad_image: str) -> Sequence[Record]:
    """The records of a split whose photos are known to decode.

    Args:
        source: the dataset.
        split: ``"train"``, ``"val"`` or ``"test"``.
        on_bad_image: ``"raise"``, or ``"skip"`` to leave bad photos out, count and report them.

    Raises:
        InputError: the split has no captions, or a photo is bad and is not to be skipped.
    """
    records = [record for record in source.records(split) if record.captions]
    if not records:
        raise InputError(_no_captions(source, split))
    errors = _photo_errors(source, records, split)
    if not errors:
        return records
    if on_bad_image == "raise":
        raise InputError(f"{next(iter(errors.values()))}; data.on_bad_image=skip leaves it out")
    kept = [record for record in records if record.image_id not in errors]
    if not kept:
        raise InputError(f"every photo of split {split!r} is bad: {next(iter(errors.values()))}")
    warnings.warn(
        f"skipped {len(errors)} bad of {len(records)} photos of split {split!r}: "
        + "; ".join(list(errors.values())[:3]),
        stacklevel=2,
    )
    return kept


def has_captions(source: Source, split: str) -> bool:
    """Whether any photo of the split has a caption."""
    return any(record.captions for record in source.records(split))


def _no_captions(source: Source, split: str) -> str:
    others = [name for name in _SPLITS if name != split and has_captions(source, name)]
    found = f"those that have are {', '.join(others)}" if others else "neither have the others"
    return f"split {split!r} of {type(source).__name__} has no captions; {found}"


def _photo_errors(source: Source, records: Sequence[Record], split: str) -> dict[int, str]:
    """What is wrong with each bad photo, by image id."""

    def error(record: Record) -> str | None:
        try:
            source.verify(record)
        except InputError as problem:
            return str(problem)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = tqdm(
            pool.map(error, records),
            total=len(records),
            desc=f"checking {split} photos",
            unit="photo",
            leave=False,
            delay=2,
        )
        return {r.image_id: e for r, e in zip(records, found, strict=True) if e is not None}
