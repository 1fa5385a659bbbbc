"""Checks of a source's records: their texts, their ids, and that no photo is in two splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.data.source import SPLITS, Record, Source
from itm_lightning.errors import InputError

_BEYOND = 2**63
_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
_KINDS |= {dict: "an object", list: "a list"}
_LIST = re.compile(r"""\s*\[\s*(["']).*\1\s*,?\s*\]\s*""", re.DOTALL)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def well_formed(records: Iterable[Record], listing: object) -> tuple[Record, ...]:
    """The records of a split, after a check of their texts and ids.

    Here alone, for every source, ids become the whole numbers that the rest of the package has.
    Until here they may be text: ``"17"`` is the number 17; where any of them is no such number, as
    ``"img_1"`` or ``"0017"``, all image ids, or caption ids, of the split are counted from 0.

    Args:
        records: what the source has read; their ids and texts may be any values.
        listing: the file or table that lists them, for the message.

    Raises:
        InputError: a caption is empty or no text, an id is missing, no number or text, or beyond 64
            bits, or an image or a caption is listed twice. The message names image and listing.
    """
    records = tuple(records)
    for record in records:
        for number, text in enumerate(record.texts, start=1):
            if fault := fault_of_text(text):
                raise InputError(
                    f"caption {number} of photo {record.location} in {listing} is {fault}"
                )
    _once(((record.location, record) for record in records), "the photo", listing)
    records = _with_numbers(records, listing)
    _once(((record.image_id, record) for record in records), "image id", listing)
    pairs = ((number, record) for record in records for number in record.text_ids)
    _once(pairs, "caption id", listing)
    return records


def fault_of_text(text: Any) -> str | None:
    """Why a value is no caption or query, and how to mend it; ``None`` where it is one."""
    if not isinstance(text, str):
        kind = _KINDS.get(type(text), type(text).__name__)
        return f"{kind}, {_shown(text)}, and no text: correct it, or leave it out"
    if not text or text.isspace():
        return "empty: fill it in, or leave it out"
    if _LIST.fullmatch(text):
        return f"a list within a text, {_shown(text)}: give one row a caption, or a list of texts"
    if not text.isascii() and _HALF_PAIR.search(text):
        return "no valid Unicode, it has half of a surrogate pair: correct it, or leave it out"
    return None


def _with_numbers(records: tuple[Record, ...], listing: object) -> tuple[Record, ...]:
    """The records with ids that are whole numbers."""
    images = [(record.image_id, record) for record in records]
    texts = [(text_id, record) for record in records for text_id in record.text_ids]
    if all(type(value) is int and -_BEYOND <= value < _BEYOND for value, _ in images + texts):
        return records
    image_ids = _numbers(images, "image", listing)
    text_ids = iter(_numbers(texts, "caption", listing))
    return tuple(
        replace(record, image_id=image, text_ids=tuple(islice(text_ids, len(record.text_ids))))
        for record, image in zip(records, image_ids, strict=True)
    )


def _numbers(ids: Sequence[tuple[Any, Record]], what: str, listing: object) -> list[int]:
    for value, record in ids:
        if type(value) is int and -_BEYOND <= value < _BEYOND:
            continue
        if type(value) is not str or not value:
            fault = "is beyond 64 bits" if type(value) is int else "is no whole number and no text"
            raise InputError(
                f"photo {record.location} in {listing} has the {what} id {_shown(value)}, "
                f"which {fault}: correct it"
            )
    numbers = [_as_number(value) for value, _ in ids]
    if None not in numbers:
        return [number for number in numbers if number is not None]
    counted = {name: k for k, name in enumerate(dict.fromkeys(str(value) for value, _ in ids))}
    return [counted[str(value)] for value, _ in ids]


def _as_number(value: int | str) -> int | None:
    """The whole number that an id is or writes; ``None`` for another text, as with a zero first."""
    if isinstance(value, int):
        return value
    is_number = value.isascii() and value.isdigit() and len(value) < 19
    return int(value) if is_number and str(int(value)) == value else None


def _once(named: Iterable[tuple[Hashable, Record]], what: str, listing: object) -> None:
    seen: dict[Hashable, Record] = {}
    for name, record in named:
        if name in seen:
            images = f"photos {seen[name].location} and {record.location}"
            raise InputError(f"{listing} lists {what} {name} twice in a split ({images})")
        seen[name] = record


def check_disjoint(source: Source) -> None:
    """Checks that no photo with captions is in two splits, as far as the source can tell photos.

    A stream cannot: it is not read here.

    Raises:
        InputError: one is; the message names it and the splits.
    """
    seen: dict[Hashable, list[tuple[str, Record]]] = defaultdict(list)
    for split in () if isinstance(source, StreamedSource) else SPLITS:
        try:
            records = source.records(split)
        except InputError:  # whoever needs the split says so
            continue
        for record in records:
            key = source.photo_key(record) if record.texts else None
            if key is None:
                continue
            for other, first in seen[key]:
                if other != split and source.are_same(first, record):
                    raise InputError(
                        f"photo {record.location} of {type(source).__name__} is in split {other} "
                        f"(as {first.location}) and in split {split}: keep it in one of them"
                    )
            seen[key].append((split, record))


def _shown(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
