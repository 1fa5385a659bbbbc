"""Scores of pairs whose comparison takes a vector a pair, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from itm_lightning.similarity.tiles import part_by_part, recomputed
from itm_lightning.types import RowsT

_CPU_ELEMENTS = 2**17  # half a megabyte in float32, which a core's own cache holds
_GPU_ELEMENTS = 2**24  # 64 MB: fewer would not keep it busy


def in_slices(
    score: Callable[[RowsT, RowsT], Tensor], images: RowsT, texts: RowsT, width: int
) -> Tensor:
    """``score(images, texts)``, a few photos and captions at a time.

    Only one slice's vectors exist at a time: where there are several, and a gradient is wanted,
    they are computed again in the backward pass.

    Args:
        score: from any number of photos and captions to ``(n_images, n_texts)``.
        images: the photos, prepared.
        texts: the captions, prepared.
        width: how many numbers a pair takes.
    """
    pairs = (_CPU_ELEMENTS if images.device.type == "cpu" else _GPU_ELEMENTS) // width
    captions = max(1, min(len(texts), pairs))
    photos = max(1, pairs // captions)
    if len(images) <= photos and len(texts) <= captions:
        return score(images, texts)
    return part_by_part(recomputed(score), images, texts, photos, captions)
