"""Gallery: the photos and captions of an evaluation, each once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.types import Features

# Relative distance of the features of one photo or caption, seen twice: rounding stays far below,
# different ones lie far above. For vectors of one length it is a cosine of 0.99.
_SAME = 0.14


@dataclass(frozen=True)
class Gallery:
    """What an evaluation ranks.

    Attributes:
        images: features of ``N`` photos.
        texts: features of ``M`` captions.
        image_ids: ``(N,)`` int64.
        text_image_ids: ``(M,)`` int64, the id of each caption's photo.
        text_ids: ``(M,)`` int64, or ``None`` where captions were given without ids.
    """

    images: Features
    texts: Features
    image_ids: Tensor
    text_image_ids: Tensor
    text_ids: Tensor | None


def ordinals(ids: Tensor) -> Tensor:
    """``(n,)`` int64: how many of the same id stand before each."""
    order = ids.argsort(stable=True)
    _, counts = ids[order].unique_consecutive(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    result = torch.empty_like(ids)
    result[order] = torch.arange(len(ids), device=ids.device) - starts
    return result


def without_repeats(gallery: Gallery, text_ordinals: Tensor) -> Gallery:
    """Keeps the first of every photo and every caption.

    A photo is known by its id, a caption by its own id or, without, by its photo and its ordinal
    among that photo's captions on the process that saw it: so a sample that a distributed sampler
    hands out twice is found again.

    Args:
        gallery: of all processes.
        text_ordinals: ``(M,)`` int64.

    Raises:
        InputError: what should be one photo or caption has clearly different features.
    """
    photos, clash = _first_of_each(gallery.image_ids[:, None], gallery.images)
    if clash is not None:
        raise InputError(
            f"photo id {int(gallery.image_ids[clash])} stands for photos with different features: "
            "give every photo its own id"
        )
    captions, clash = _first_of_each(_caption_keys(gallery, text_ordinals), gallery.texts)
    if clash is not None:
        raise InputError(_caption_clash(gallery, clash))
    return replace(
        gallery,
        images=gallery.images[photos],
        texts=gallery.texts[captions],
        image_ids=gallery.image_ids[photos],
        text_image_ids=gallery.text_image_ids[captions],
        text_ids=None if gallery.text_ids is None else gallery.text_ids[captions],
    )


def _caption_keys(gallery: Gallery, text_ordinals: Tensor) -> Tensor:
    if gallery.text_ids is not None:
        return gallery.text_ids[:, None]
    return torch.stack([gallery.text_image_ids, text_ordinals], dim=1)


def _caption_clash(gallery: Gallery, row: int) -> str:
    if gallery.text_ids is not None:
        return (
            f"text id {int(gallery.text_ids[row])} stands for captions with different features: "
            "give every caption its own id"
        )
    return (
        f"captions of photo id {int(gallery.text_image_ids[row])} were seen by several processes: "
        "pass text_ids to update, so that repeats can be told from further captions"
    )


def _first_of_each(keys: Tensor, features: Features) -> tuple[Tensor, int | None]:
    """Rows at which a key stands for the first time, and one that differs from its first."""
    _, group = keys.unique(dim=0, return_inverse=True)
    row = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(row, len(keys)).scatter_reduce(0, group, row, "amin")[group]
    repeats = row[first != row]
    clashes = repeats[_differ(features[repeats], features[first[repeats]])]
    return row[first == row], int(clashes[0]) if len(clashes) else None


def _differ(a: Features, b: Features) -> Tensor:
    """``(n,)`` bool, of features row by row."""
    left, right = _vectors(a), _vectors(b)
    size = torch.maximum(left.norm(dim=1), right.norm(dim=1))
    return (left - right).norm(dim=1) > _SAME * size


def _vectors(features: Features) -> Tensor:
    if features.pooled is not None:
        return features.pooled.float()
    assert features.tokens is not None  # Features has one or both
    assert features.mask is not None
    return features.tokens.masked_fill(~features.mask.unsqueeze(-1), 0).flatten(1).float()
