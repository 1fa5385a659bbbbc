"""Scores in bounded memory, a part of the matrix at a time, where a pair takes many numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from operator import itemgetter

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from itm_lightning.types import RowsT

# What is made of a tile should stay in the cache, and the matrices in it should be no slivers.
_CPU_ELEMENTS = 2**19
_GPU_ELEMENTS = 2**26  # 256 MB: less would not keep it busy


def in_tiles(
    score: Callable[[RowsT, RowsT], Tensor], images: RowsT, texts: RowsT, width: int
) -> Tensor:
    """``score(images, texts)``, about as many photos as captions at a time.

    Args:
        score: from any number of photos and captions to ``(n_images, n_texts)``.
        images: the photos, prepared.
        texts: the captions, prepared.
        width: how many numbers a pair takes.
    """
    elements = _CPU_ELEMENTS if images.device.type == "cpu" else _GPU_ELEMENTS
    rows, columns = _shape(len(images), len(texts), elements // max(1, width))
    return part_by_part(score, images, texts, rows, columns)


def part_by_part(
    score: Callable[[RowsT, RowsT], Tensor],
    images: RowsT,
    texts: RowsT,
    rows: int,
    columns: int,
) -> Tensor:
    """``score(images, texts)``, of so many ``rows`` and ``columns`` at a time."""
    text_parts = _split(texts, columns)
    parts = [torch.cat([score(i, t) for t in text_parts], dim=1) for i in _split(images, rows)]
    return torch.cat(parts)


def _shape(n_images: int, n_texts: int, pairs: int) -> tuple[int, int]:
    """How many photos and captions a tile has: all about as many, and no slivers at the edge."""
    wanted = max(1, math.isqrt(pairs), pairs // max(1, n_images))
    texts = _even(n_texts, round(n_texts / wanted))
    images = max(1, pairs // texts)
    return _even(n_images, math.ceil(n_images / images)), texts


def _even(total: int, parts: int) -> int:
    return max(1, math.ceil(total / max(1, parts)))


def recomputed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, which keeps its arguments alone, and computes all else again to go backward.

    It must leave its arguments as they are, and draw no random numbers.
    """
    if not torch.is_grad_enabled():
        return function
    return partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)


def _split(rows: RowsT, size: int) -> list[RowsT]:
    """Parts of ``size`` rows, whose gradients are joined once: every index would join its own."""
    parts = rows.map(lambda values: values.split(size))
    count = max(1, math.ceil(len(rows) / size))
    return [parts.map(itemgetter(i)) for i in range(count)]


_SLICE_CPU_ELEMENTS = 2**17  # half a megabyte in float32, which a core's own cache holds
_SLICE_GPU_ELEMENTS = 2**24  # 64 MB: fewer would not keep it busy


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
    pairs = (_SLICE_CPU_ELEMENTS if images.device.type == "cpu" else _SLICE_GPU_ELEMENTS) // width
    columns = max(1, min(len(texts), pairs))
    rows = max(1, pairs // columns)
    if len(images) <= rows and len(texts) <= columns:
        return score(images, texts)
    return part_by_part(recomputed(score), images, texts, rows, columns)
