"""What parts learn of the train split before the training: words, classes, statistics."""

from __future__ import annotations

from torch import nn

from itm_lightning.data import ITMDataModule, Source, VectorSource
from itm_lightning.data.validation import warn_of_texts
from itm_lightning.encoders import ImageVectors, TextEncoder, TextVectors
from itm_lightning.errors import InputError
from itm_lightning.objectives.base import Objective
from itm_lightning.part import UsesLabels
from itm_lightning.registry import list_overriding
from itm_lightning.types import Features


def learn_from_data(module: nn.Module, data: ITMDataModule, processes: int) -> None:
    """Lets every part learn what it needs of the train split, before any long work.

    Args:
        module: the model.
        data: what it is to be trained on.
        processes: whose batches a step compares as one; 0 where nothing is compared.

    Raises:
        InputError: there is nothing to compare a pair with; a part needs classes that the source
            lacks; or the text encoder reads strings where the source has vectors, or the other way
            round.
    """
    if processes:
        _check_batches(data, processes)
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
    for split in ("train", "val"):
        if data.has_split(split):
            warn_of_texts(module, source, data.records(split), split)


def _check_batches(data: ITMDataModule, processes: int) -> None:
    images = len(data.records("train"))
    if images < 2:
        raise InputError(
            f"the train split of {type(data.source).__name__} has {images} photo with captions: a "
            "pair is learnt by comparing it with others, so give at least 2"
        )
    if data.batch_size * processes < 2:
        raise InputError(
            "data.batch_size is 1: a pair is learnt by comparing it with others of its batch, so "
            "give at least 2"
        )


def _check_classes(part: UsesLabels, source: Source) -> None:
    if source.class_names:
        return
    having = list_overriding("source", "class_names")
    raise InputError(
        f"{type(part).__name__} learns from class labels, and {type(source).__name__} has none "
        f"here: sources with classes are {', '.join(having)} (COCO's need the instances files)"
    )
