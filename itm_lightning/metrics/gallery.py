"""Gallery: the photos and captions of an evaluation, each once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import Spread, as_spread
from itm_lightning.errors import InputError
from itm_lightning.metrics.repeats import first_of_each
from itm_lightning.types import Features


@dataclass(frozen=True)
class Gallery:
    """What an evaluation ranks.

    Attributes:
        images: features of ``N`` photos; where several processes hold some of them each, a
            :class:`~itm_lightning.distributed.Spread`, and ids are of all of them everywhere.
        texts: features of ``M`` captions, likewise.
        image_ids: ``(N,)`` int64.
        text_image_ids: ``(M,)`` int64, the id of each caption's photo.
        text_ids: ``(M,)`` int64, or ``None`` where captions were given without ids.
    """

    images: Features | Spread
    texts: Features | Spread
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
    """Keeps the first of every photo and every caption, in an order that ids alone decide.

    A photo is known by its id, a caption by its own id or, without, by its photo and its ordinal
    among that photo's captions on the process that saw it: so a sample that a distributed sampler
    hands out twice is found again. Photos are sorted by id, captions by photo and then by id or
    ordinal: the same gallery, whichever process saw what. No features move.

    Args:
        gallery: of all processes, spread.
        text_ordinals: ``(M,)`` int64.

    Raises:
        InputError: what should be one photo or caption has clearly different features.
    """
    photos, clash = first_of_each(gallery.image_ids, as_spread(gallery.images))
    if clash is not None:
        raise InputError(
            f"photo id {int(gallery.image_ids[clash])} stands for photos with different features: "
            "give every photo its own id"
        )
    keys = gallery.text_ids
    if keys is None:
        keys = torch.stack([gallery.text_image_ids, text_ordinals], dim=1)
    captions, clash = first_of_each(keys, as_spread(gallery.texts))
    if clash is not None:
        raise InputError(_caption_clash(gallery, clash))
    captions = captions[gallery.text_image_ids[captions].argsort(stable=True)]
    return Gallery(
        images=as_spread(gallery.images)[photos].whole(),
        texts=as_spread(gallery.texts)[captions].whole(),
        image_ids=gallery.image_ids[photos],
        text_image_ids=gallery.text_image_ids[captions],
        text_ids=None if gallery.text_ids is None else gallery.text_ids[captions],
    )


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
