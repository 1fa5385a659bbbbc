"""Where in the photo a trunk's tokens are.

The manifest: what an extraction is to write, known before it begins.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from itm_lightning.data import Record
from itm_lightning.data.sources.precomputed.files import VERSION, to_line
from itm_lightning.encoders import ImageEncoder
from itm_lightning.extract.extraction import Photos
from itm_lightning.part import recipe

_MOST_OTHERS = 8  # class token and registers


def grid_of(tokens: int, height: int, width: int) -> dict[str, int] | None:
    """The grid of square cells that ``tokens`` form over pixels ``(height, width)``.

    The grid comes last, row by row; before it may be a class token and registers, as the vision
    transformers have them.

    Returns:
        ``rows``, ``columns``, and ``first``, the first token that belongs to the grid; ``None``
        where no such grid is.
    """
    for first in range(min(tokens, _MOST_OTHERS + 1)):
        rows = math.isqrt((tokens - first) * height // width)
        columns, rest = divmod(tokens - first, rows) if rows else (0, 1)
        if not rest and rows * width == columns * height:
            return {"rows": rows, "columns": columns, "first": first}
    return None


@torch.no_grad()
def plan(
    encoder: ImageEncoder,
    photos: Mapping[str, Photos],
    dtype: str,
    batch_size: int,
) -> dict[str, Any]:
    """The manifest of an extraction, in plain values.

    Args:
        encoder: in evaluation mode, on the device it will run on.
        photos: by split; the encoder sees the first of all, to tell the shapes.
        dtype: of the regions.
        batch_size: photos a step; sums differ in their last bit where it does.

    Returns:
        ``version``, ``encoder`` (``recipe`` and ``fingerprint``), ``dtype``, ``batch_size``,
        ``grid`` (:func:`~itm_lightning.extract.plan.grid_of`), and of each of ``splits`` the number
        of ``captions``, the ``shape`` of the regions and ``data``, the SHA-256 of the records.
    """
    pixels = next(iter(photos.values()))[0]
    tokens, dim = encoder.trunk(pixels[None].to(encoder.device)).shape[1:]
    return {
        "version": VERSION,
        "encoder": {"recipe": recipe(encoder), "fingerprint": encoder.fingerprint()},
        "dtype": dtype,
        "batch_size": batch_size,
        "grid": grid_of(tokens, *pixels.shape[-2:]),
        "splits": {
            split: {
                "captions": sum(len(record.captions) for record in dataset.records),
                "shape": [len(dataset), tokens, dim],
                "data": _sha256(dataset.records),
            }
            for split, dataset in photos.items()
        },
    }


def _sha256(records: Sequence[Record]) -> str:
    """Of the records as they are written: ids, captions, locations and all else they know."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{to_line(record)}\n".encode())
    return digest.hexdigest()
