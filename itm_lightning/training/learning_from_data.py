"""What parts learn of the train split before the training: words, classes, statistics."""

from __future__ import annotations

import warnings

from torch import nn

from itm_lightning.data import ITMDataModule, Source, VectorSource
from itm_lightning.encoders import ImageVectors, TextEncoder, TextVectors
from itm_lightning.errors import InputError
from itm_lightning.objectives.base import Objective
from itm_lightning.part import UsesLabels
from itm_lightning.registry import list_overriding
from itm_lightning.types import Features

_ASKED = 500  # captions of a split, evenly spread over it, that tell the share of unknown words
_MANY = 0.3  # of the words; 0.05 are usual


def learn_from_data(module: nn.Module, data: ITMDataModule) -> None:
    """Lets every part learn what it needs of the train split, before any long work.

    Raises:
        InputError: a part needs classes that the source lacks, or the text encoder reads strings
            where the source has vectors, or the other way round.
    """
    parts = list(module.modules())
    source, texts = data.source, data.train_texts()
    for part in parts:
        if isinstance(part, TextEncoder) and isinstance(part, TextVectors) != isinstance(
            source, VectorSource
        ):
            wanted = "TextVectors" if isinstance(source, VectorSource) else "an encoder of strings"
            raise InputError(
                f"{type(part).__name__} cannot read the texts of {type(source).__name__}: set "
                f"model.text_encoder to {wanted}"
            )
        if isinstance(part, UsesLabels):
            _check_classes(part, source)
            part.learn_classes(data.class_names)
        if isinstance(part, TextVectors):
            assert isinstance(texts, Features)  # as the source is a VectorSource
            assert texts.pooled is not None
            part.learn_statistics(texts.pooled)
        if isinstance(part, ImageVectors):
            vectors = data.train_vectors()
            if vectors is None:
                raise InputError(
                    f"ImageVectors cannot read what {type(source).__name__} has of images: set "
                    "model.image_encoder to RegionFeatures"
                )
            part.learn_statistics(vectors)
        if isinstance(part, (TextEncoder, Objective)) and isinstance(texts, list):
            part.learn_vocabulary(texts)


def warn_of_texts(module: nn.Module, data: ITMDataModule, split: str) -> None:
    """Warns where a text encoder cuts texts of a split, or does not know many of their words."""
    texts = [text for record in data.records(split) for text in record.texts]
    for encoder in module.modules():
        if not isinstance(encoder, TextEncoder) or isinstance(data.source, VectorSource):
            continue
        name = type(encoder).__name__
        if cut := encoder.count_cut(texts):
            warnings.warn(
                f"{name} cuts {cut} of {len(texts)} captions of split {split!r}: they are longer "
                "than its max_length",
                stacklevel=2,
            )
        ids, mask = encoder.token_ids(texts[:: -(-len(texts) // _ASKED)])
        unknown = (ids == encoder.unknown_id)[mask].float().mean().item()
        if unknown > _MANY:
            warnings.warn(
                f"{name} does not know {unknown:.0%} of the words of split {split!r}: their scores "
                "mean little; train on captions in their language and style",
                stacklevel=2,
            )


def _check_classes(part: UsesLabels, source: Source) -> None:
    if source.class_names:
        return
    having = list_overriding("source", "class_names")
    raise InputError(
        f"{type(part).__name__} learns from class labels, and {type(source).__name__} has none "
        f"here: sources with classes are {', '.join(having)} (COCO's need the instances files)"
    )
