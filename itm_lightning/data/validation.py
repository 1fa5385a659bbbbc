"""Checks before any long work: of a source's records, and of the encoder that reads them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

from itm_lightning.data.source import SPLITS, Record, RegionSource, Source, VectorSource
from itm_lightning.encoders.base import ImageEncoder, TextEncoder
from itm_lightning.errors import InputError
from itm_lightning.utils.progress_bars import progress_bar

_ASKED = 500  # captions of a split, evenly spread over it, that tell the share of unknown words
_PER_TASK = 64  # photos that a thread checks at a time
_MANY = 0.3  # of the words; 0.05 are usual


def checked_records(source: Source, split: str, on_bad_image: str) -> Sequence[Record]:
    """The records of a split, after checks of their labels and images.

    Images without texts are left out of ``"train"``; elsewhere they stay, as distractors.

    Args:
        source: the dataset.
        split: ``"train"``, ``"val"`` or ``"test"``.
        on_bad_image: ``"raise"``, or ``"skip"`` to leave bad images out and warn how many.

    Raises:
        InputError: the split has no texts, a label is not among the source's class names, or an
            image is bad and is not to be skipped.
    """
    records = source.records(split)
    if split == "train":
        records = [record for record in records if record.texts]
    if not any(record.texts for record in records):
        raise InputError(_no_texts(source, split))
    _check_labels(source, records)
    checked = _checked_images(source, records, split)
    errors = [found for found in checked if isinstance(found, InputError)]
    kept = [found for found in checked if isinstance(found, Record)]
    if not errors:
        return kept
    first = errors[0]
    if on_bad_image == "raise":
        raise InputError(f"{first}; data.on_bad_image=skip leaves it out")
    if not any(record.texts for record in kept):
        raise InputError(f"every photo of split {split!r} is bad: {first}")
    warnings.warn(
        f"skipped {len(errors)} bad of {len(records)} photos of split {split!r}: "
        + "; ".join(map(str, errors[:3])),
        stacklevel=2,
    )
    return kept


def _fingerprint(records: Sequence[Record]) -> dict[str, Any]:
    digest, texts = hashlib.blake2b(digest_size=16), 0
    for record in records:
        name = record.location.rpartition("/")[2]
        known = record.image_id, name, record.texts, record.text_ids, record.labels
        digest.update(repr(known).encode(errors="surrogatepass"))
        texts += len(record.texts)
    return {"images": len(records), "texts": texts, "digest": digest.hexdigest()}


def fingerprints(splits: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, Any]]:
    """Plain values by which the records of each split are known again, wherever its files lie."""
    return {split: _fingerprint(records) for split, records in splits.items()}


def check_same_records(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Sequence[Record]]
) -> None:
    """Checks that a fit goes on with the data with which it began.

    Args:
        before: the fingerprint of each split.
        now: the records of each split.

    Raises:
        InputError: they differ; the message says in what.
    """
    for split in before.keys() & now.keys():
        then, here = before[split], _fingerprint(now[split])
        if then != here:
            counts = [
                f"{each['images']} photos with {each['texts']} captions" for each in (then, here)
            ]
            same = "as many, but other, photos, captions, ids or labels"
            raise InputError(
                f"the {split} split has changed since the checkpoint was written: it had "
                f"{counts[0]}, and has {same if counts[0] == counts[1] else counts[1]}: restore "
                "it, or start anew from the checkpoint's weights with --start_from"
            )


def splits_to_fit(source: Source) -> list[str]:
    """The splits that are read and checked before a fit.

    The classical benchmarks have no val; elsewhere that it is missing is a mistake. Regions are
    checked in test as well: what is NaN there would end the test only after the training.
    """
    needed = ["train"] if isinstance(source, VectorSource) else ["train", "val"]
    wanted = SPLITS if isinstance(source, RegionSource) else needed
    return [split for split in wanted if split in needed or has_texts(source, split)]


def has_texts(source: Source, split: str) -> bool:
    """Whether any image of the split has a text."""
    return any(record.texts for record in source.records(split))


def _no_texts(source: Source, split: str) -> str:
    others = [name for name in SPLITS if name != split and has_texts(source, name)]
    found = f"those that have are {', '.join(others)}" if others else "neither have the others"
    return f"split {split!r} of {type(source).__name__} has no captions; {found}"


def _check_labels(source: Source, records: Sequence[Record]) -> None:
    """Raises InputError where a record has a label that is not among the source's class names."""
    names = set(source.class_names)
    if not names:
        return  # a source without classes: nothing reads its labels
    for record in records:
        for label in record.labels:
            if label not in names:
                raise InputError(
                    f"photo {record.location} of {type(source).__name__} has the label {label!r}, "
                    "which is not among the source's class_names: correct one of them"
                )


def _checked_images(
    source: Source, records: Sequence[Record], split: str
) -> list[Record | InputError]:
    """The records in their order, or what is wrong with their images."""

    def checked(some: Sequence[Record]) -> list[Record | InputError]:
        found: list[Record | InputError] = []
        for record in some:
            try:
                source.verify(record)
                found.append(source.upright(record))
            except InputError as error:
                found.append(error)
        return found

    found: list[Record | InputError] = []
    # to hand photos to the threads one by one would take as long as a fifth of the check
    parts = [records[i : i + _PER_TASK] for i in range(0, len(records), _PER_TASK)]
    about = {"desc": f"checking {split} photos", "unit": "photo", "leave": False, "delay": 2}
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar(total=len(records), **about) as bar,
    ):
        for part in pool.map(checked, parts):
            found += part
            bar.update(len(part))
    return found


def warn_of_texts(module: nn.Module, source: Source, records: Sequence[Record], split: str) -> None:
    """Warns where a text encoder cuts texts of a split, or does not know many of their words.

    Args:
        module: has the text encoders; an ensemble has several.
        source: of the records.
        records: of the split.
        split: its name.
    """
    texts = [text for record in records for text in record.texts]
    if isinstance(source, VectorSource) or not texts:
        return
    for encoder in module.modules():
        if not isinstance(encoder, TextEncoder):
            continue
        name = type(encoder).__name__
        if cut := encoder.count_cut(texts):
            warnings.warn(
                f"{name} cuts {cut} of {len(texts)} captions of split {split!r}: they are longer "
                "than its max_length",
                stacklevel=2,
            )
        if encoder.unknown_id is None:
            continue
        ids, mask = encoder.token_ids(texts[:: -(-len(texts) // _ASKED)])
        unknown = (ids == encoder.unknown_id)[mask].float().mean().item()
        if unknown > _MANY:
            warnings.warn(
                f"{name} does not know {unknown:.0%} of the words of split {split!r}: their scores "
                "mean little; train on captions in their language and style",
                stacklevel=2,
            )


def check_encoder(source: Source, encoder: ImageEncoder) -> None:
    """Checks that the encoder can read what the source has: images, or regions alone.

    Raises:
        InputError: it needs images and the source has regions, or the other way round.
    """
    if not isinstance(source, RegionSource):
        encoder.transform(train=False)  # an encoder of regions raises here
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
    """Checks that the encoder's own trunk would have made the same regions.

    Call it once the trunk has its weights. Where the source does not know which encoder made its
    regions, their width alone is compared.

    Args:
        source: the source of the regions.
        record: any of its records.
        encoder: the image encoder that is to read them.

    Raises:
        InputError: the regions have another width, or another encoder made them.
    """
    made_by, own = source.made_by, encoder.fingerprint()
    if made_by is not None and own is not None and made_by != own:
        dtype = next(encoder.network.parameters()).dtype
        if dtype != torch.float32:
            raise InputError(
                f"the trunk that made the features of {type(source).__name__} is recognised by its "
                f"weights in float32, but they are {dtype} here: set trainer.precision: 32-true, "
                "or bf16-mixed"
            )
        raise InputError(
            f"the features of {type(source).__name__} are stale, another image encoder made them "
            f"({_first_difference(made_by, own)}): run `lightning extract` again"
        )
    width, reader = source.regions(record).shape[-1], type(encoder).__name__
    if width != encoder.trunk_dim:
        raise InputError(
            f"the regions of {type(source).__name__} are {width} wide, but {reader} reads "
            f"{encoder.trunk_dim}: set model.image_encoder to the encoder that made them, or to "
            f"RegionFeatures with dim: {width}"
        )


def _first_difference(made_by: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The first entry in which two fingerprints differ, with the value that each has."""
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
