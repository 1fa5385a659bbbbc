"""Checks that an image encoder can read what a source has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itm_lightning.data.source import Record, RegionSource, Source
from itm_lightning.errors import InputError

if TYPE_CHECKING:
    from itm_lightning.encoders import ImageEncoder


def check_encoder(source: Source, encoder: ImageEncoder) -> None:
    """Checks that the encoder takes photos, or regions and no more than that.

    Raises:
        InputError: it needs the photos of a source of regions, or the other way round.
    """
    if not isinstance(source, RegionSource):
        encoder.transform(train=False)  # an encoder of regions says here that it has none
        return
    name = type(source).__name__
    if not encoder.frozen:
        raise InputError(
            f"{name} has regions, from which the trunk of {type(encoder).__name__} cannot learn: "
            "set model.image_encoder.trainable: false, or take a source of photos"
        )
    if encoder.augment:
        raise InputError(
            f"{name} has regions, and augmentation needs photos: set "
            "model.image_encoder.augment: false, or take a source of photos"
        )


def check_regions(source: RegionSource, record: Record, encoder: ImageEncoder) -> None:
    """Checks that the regions are what the encoder's own trunk would have made.

    To be called when the trunk has its weights; where nobody knows what made the regions, their
    width has to do.

    Args:
        source: whose regions.
        record: any record of it.
        encoder: the image encoder that is to read them.

    Raises:
        InputError: the regions have another width, or another encoder made them.
    """
    made_by, own = source.made_by, encoder.fingerprint()
    if made_by is not None and own is not None and made_by != own:
        raise InputError(
            f"the features of {type(source).__name__} are stale, another image encoder made them "
            f"({_first_difference(made_by, own)}): run `lightning extract` again"
        )
    width, reader = source.regions(record).shape[-1], type(encoder).__name__
    if width != encoder.dim:
        raise InputError(
            f"the regions of {type(source).__name__} are {width} wide, but {reader} reads "
            f"{encoder.dim}: set model.image_encoder to the encoder that made them, or to "
            f"RegionFeatures with dim: {width}"
        )


def _first_difference(made_by: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Where two fingerprints part, and what stands in each."""
    for name in {**made_by, **own}:
        there, here = made_by.get(name), own.get(name)
        if there == here:
            continue
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            return _first_difference(there, here)
        return f"{name}: {_short(there)} there, {_short(here)} here"
    raise ValueError("the fingerprints are the same")


def _short(value: Any, most: int = 60) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
