"""Checks of what a dataset's files list, before any long work."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from itm_lightning.data.source import Record
from itm_lightning.errors import InputError


def well_formed(records: Iterable[Record], listing: object) -> tuple[Record, ...]:
    """The records of a split, when each stands once and no caption is empty.

    Args:
        records: as the source read them.
        listing: the file or table that lists them, for the message.

    Raises:
        InputError: they are not; the message names photo and listing.
    """
    records = tuple(records)
    for record in records:
        for number, caption in enumerate(record.captions, start=1):
            if not isinstance(caption, str) or not caption.strip():
                raise InputError(
                    f"caption {number} of photo {record.location} in {listing} is empty: "
                    "fill it in, or leave it out"
                )
    _once(((record.location, record) for record in records), "the photo", listing)
    _once(((record.image_id, record) for record in records), "image id", listing)
    pairs = ((number, record) for record in records for number in record.caption_ids)
    _once(pairs, "caption id", listing)
    return records


def _once(named: Iterable[tuple[Hashable, Record]], what: str, listing: object) -> None:
    seen: dict[Hashable, Record] = {}
    for name, record in named:
        if name in seen:
            photos = f"photos {seen[name].location} and {record.location}"
            raise InputError(f"{listing} lists {what} {name} twice in a split ({photos})")
        seen[name] = record
