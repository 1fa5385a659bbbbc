"""Gallery: the images and texts of an evaluation, each once."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.errors import InputError
from itm_lightning.types import AnyFeatures, Features


def cat_and_free(parts: list[Tensor]) -> Tensor:
    """Joins the rows of all parts; each part is freed as soon as it is copied.

    Args:
        parts: at least one, ``(n, d, …)``, whose second dimension may differ; it is padded with
            zeros to the largest. Afterwards the list holds the result alone.
    """
    if len(parts) == 1:
        return parts[0]
    n_rows, width = sum(map(len, parts)), max(part.shape[1] for part in parts)
    dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts))
    # empty, not zeros: memory is allocated as it is written, and freed at the same rate
    whole = parts[0].new_empty((n_rows, width, *parts[0].shape[2:]), dtype=dtype)
    parts.reverse()
    start = 0
    while parts:
        part = parts.pop()
        rows = whole[start : start + len(part)]
        rows[:, : part.shape[1]] = part
        rows[:, part.shape[1] :] = 0
        start += len(part)
    parts.append(whole)
    return whole


# Relative distance of the features of one image or text that came twice: rounding stays far below,
# different ones lie far above. For vectors of equal length it is a cosine of 0.99.
_SAME = 0.14
_SKETCH = 32  # numbers: enough to tell a distance of 0.14 from one of 0.3
_ROWS = 256  # sketched at a time


def deduplicate(keys: Tensor, features: ShardedFeatures) -> tuple[Tensor, int | None]:
    """The first row of every key, and a row that clearly differs from the first of its key.

    A collective. Features stay on their process: of those whose key is repeated, the processes
    compare sketches.

    Args:
        keys: ``(N,)`` or ``(N, d)`` int64.
        features: of the ``N`` rows.

    Returns:
        The rows in the order of their keys; and the first row that differs, or ``None``.
    """
    _, group = keys.cpu().unique(dim=0, return_inverse=True)
    row = torch.arange(len(group))
    first = torch.full((int(group.max()) + 1,), len(row)).scatter_reduce(0, group, row, "amin")
    repeated = group.bincount()[group] > 1
    if not repeated.any():
        return first, None
    sketches = torch.empty(len(row), _SKETCH)
    sketches[repeated] = _sketches(features[repeated])
    repeats = row[first[group] != row]
    clashes = repeats[_differ(sketches[repeats], sketches[first[group][repeats]])]
    return first, int(clashes[0]) if len(clashes) else None


def _differ(left: Tensor, right: Tensor) -> Tensor:
    """``(n,)`` bool, of sketches row by row."""
    size = torch.maximum(left.norm(dim=1), right.norm(dim=1))
    return (left - right).norm(dim=1) > _SAME * size


def _sketches(features: ShardedFeatures) -> Tensor:
    """``(N, 32)`` float32 on the CPU: random projections, which approximately keep distances.

    Johnson & Lindenstrauss (1984), Extensions of Lipschitz mappings into a Hilbert space.
    """
    rank = features.processes.rank
    own = features.local_index[features.owner_rank == rank]
    # an ensemble's members encode the same images and texts: the first of them tells all
    local, empty = features.local.parts[0], features.empty.parts[0]
    length = 0 if empty.tokens is None else empty.tokens.shape[1]
    parts = [_sketch(local[rows], length) for rows in own.split(_ROWS)]
    sketches = torch.cat(parts).cpu()
    counts = features.owner_rank.bincount(minlength=features.processes.size).tolist()
    sketches = features.processes.all_gather(sketches, counts).cpu()
    order = features.owner_rank.argsort(stable=True)
    return sketches[order.argsort()]


def _sketch(features: Features, length: int) -> Tensor:
    random = torch.Generator().manual_seed(0)  # the same projection on every process
    values = features.tokens if features.pooled is None else features.pooled
    assert values is not None  # Features has one or both
    projection = torch.randn(values.shape[-1], _SKETCH, generator=random).to(values.device)
    projected = values.float() @ projection
    if features.pooled is not None:
        return projected
    assert features.mask is not None  # it comes with tokens
    signs = torch.randint(2, (length, _SKETCH), generator=random).to(values.device) * 2 - 1
    words = projected.masked_fill(~features.mask.unsqueeze(-1), 0)
    return (words * signs[: words.shape[1]]).sum(dim=1)  # each position with its own signs


@dataclass(frozen=True)
class Gallery:
    """What an evaluation ranks.

    Attributes:
        images: features of ``N`` images; if each of several processes holds some of them, a
            :class:`~itm_lightning.distributed.ShardedFeatures`. Ids are always of all rows.
        texts: features of ``M`` texts, likewise.
        image_ids: ``(N,)`` int64.
        text_image_ids: ``(M,)`` int64, the id of each text's image.
        text_ids: ``(M,)`` int64, or ``None`` if texts were given without ids.
    """

    images: AnyFeatures | ShardedFeatures
    texts: AnyFeatures | ShardedFeatures
    image_ids: Tensor
    text_image_ids: Tensor
    text_ids: Tensor | None


def ordinals(ids: Tensor) -> Tensor:
    """``(n,)`` int64: how many times each id occurs before."""
    order = ids.argsort(stable=True)
    _, counts = ids[order].unique_consecutive(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    result = torch.empty_like(ids)
    result[order] = torch.arange(len(ids), device=ids.device) - starts
    return result


def without_repeats(gallery: Gallery, text_ordinals: Tensor) -> Gallery:
    """Keeps the first of every image and every text, in an order that depends on ids alone.

    An image is identified by its id, a text by its own id or, without, by its image and its ordinal
    among that image's texts on its process. So what a distributed sampler repeats is recognised.
    Images are sorted by id, texts by image and then by id or ordinal: the gallery is the same
    however rows were distributed over the processes. No features move.

    Args:
        gallery: of all processes.
        text_ordinals: ``(M,)`` int64.

    Raises:
        InputError: two rows of one image or text have clearly different features.
    """
    images, clash = deduplicate(gallery.image_ids, as_sharded(gallery.images))
    if clash is not None:
        raise InputError(
            f"photo id {int(gallery.image_ids[clash])} stands for photos with different features: "
            "give every photo its own id"
        )
    keys = gallery.text_ids
    if keys is None:
        keys = torch.stack([gallery.text_image_ids, text_ordinals], dim=1)
    texts, clash = deduplicate(keys, as_sharded(gallery.texts))
    if clash is not None:
        raise InputError(_text_clash(gallery, clash))
    texts = texts[gallery.text_image_ids[texts].argsort(stable=True)]
    return Gallery(
        images=as_sharded(gallery.images)[images].whole(),
        texts=as_sharded(gallery.texts)[texts].whole(),
        image_ids=gallery.image_ids[images],
        text_image_ids=gallery.text_image_ids[texts],
        text_ids=None if gallery.text_ids is None else gallery.text_ids[texts],
    )


def _text_clash(gallery: Gallery, row: int) -> str:
    if gallery.text_ids is not None:
        return (
            f"text id {int(gallery.text_ids[row])} stands for captions with different features: "
            "give every caption its own id"
        )
    return (
        f"captions of photo id {int(gallery.text_image_ids[row])} were seen by several processes: "
        "pass text_ids to update, so that repeats can be told from further captions"
    )
