"""EvaluatingModule: how a LightningModule scores a split, whatever it learns and from whatever."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from typing_extensions import override

from itm_lightning.data.source import Record
from itm_lightning.errors import InputError
from itm_lightning.metrics import BidirectionalRecall, Gallery
from itm_lightning.metrics.minimal_pairs import pairs_accuracy
from itm_lightning.metrics.protocols import Evaluation, Layout, Protocol, Retrieval
from itm_lightning.metrics.voters import Voter, together
from itm_lightning.ranking import TopK, top_k
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Batch, Features

_NEAREST = 10


class EvaluatingModule(pl.LightningModule, ABC):
    """Scores photos and captions of a split, and retrieves them.

    At the end of an evaluation epoch it logs ``val/…`` or ``test/…`` for each key of
    :class:`~itm_lightning.metrics.BidirectionalRecall`, and ``…/pairs_accuracy`` where the source
    knows minimal pairs.

    Attributes:
        similarity: the head; a subclass sets it.
        recall: over that head; a subclass sets it.
        protocol: decides what ``trainer.validate`` and ``trainer.test`` score, and may be set at
            any time. The validation epochs of ``trainer.fit`` are plain
            :class:`~itm_lightning.metrics.protocols.Retrieval` always.
        voters: other models, whose scores are averaged with this one's in the next evaluation; they
            have seen its split, and are let go of after it.
        weight: of this one among them.
        evaluation: the last one.
        results: what was logged of evaluations, as Python floats.
        retrieved: what the last ``trainer.predict`` found.
    """

    similarity: Similarity
    recall: BidirectionalRecall

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Protocol = Retrieval()
        self.voters: Sequence[Voter] = ()
        self.weight = 1.0
        self.evaluation: Evaluation | None = None
        self.results: dict[str, float] = {}
        self.retrieved: tuple[Gallery, TopK] | None = None

    @abstractmethod
    def encode_images(self, images: Tensor | Features) -> Features:
        """Photos into the common space."""

    @abstractmethod
    def encode_texts(self, texts: list[str]) -> Features:
        """Captions into the common space."""

    @property
    def data(self) -> Any:
        """The trainer's data module.

        Raises:
            InputError: it has none.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise InputError("Matcher needs its data as trainer.fit(matcher, datamodule=…)")
        return data

    def check_protocol(self, stage: str) -> None:
        """Checks it before any long work: the test after a fit must not be refused after hours.

        Raises:
            InputError: the protocol is not for the split that it will score.
        """
        if stage in ("validate", "test"):
            split = "val" if stage == "validate" else "test"
            self.protocol.check(_layout(self.data.records(split)))
        elif stage == "fit" and self.data.has_split("test"):
            self.protocol.check(_layout(self.data.source.records("test")))

    @override
    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self.recall.update(
            self.encode_images(batch.images),
            self.encode_texts(batch.texts),
            batch.image_ids,
            batch.text_image_ids,
            batch.text_ids,
        )

    test_step = validation_step
    predict_step = validation_step

    @override
    def on_validation_epoch_end(self) -> None:
        self.score("val")

    @override
    def on_test_epoch_end(self) -> None:
        self.score("test")

    @override
    def on_predict_epoch_end(self) -> None:
        self.retrieve()

    def score(self, split: str) -> None:
        """Scores what the epoch's steps have encoded, and forgets it; a collective."""
        similarity, gallery = self._judges()
        protocol = Retrieval() if self.trainer.state.fn == "fit" else self.protocol
        evaluation = protocol.evaluate(similarity, gallery, _layout(self.data.records(split)))
        scores = dict(evaluation.scores)
        pairs = pairs_accuracy(similarity, gallery, self.data.minimal_pairs(split))
        if not math.isnan(pairs):  # there are minimal pairs
            scores["pairs_accuracy"] = pairs
        self.evaluation = replace(evaluation, scores=scores, models=1 + len(self.voters))
        self._forget()
        named = {f"{split}/{key}": value for key, value in scores.items()}
        others = {k: v for k, v in self.results.items() if not k.startswith(f"{split}/")}
        self.results = others | named
        for key, value in named.items():
            self.log(key, value, prog_bar=key.endswith("rsum"))

    def retrieve(self) -> None:
        """Finds the nearest of all that was encoded, and forgets it; a collective."""
        similarity, gallery = self._judges()
        k = min(_NEAREST, len(gallery.images), len(gallery.texts))
        self.retrieved = gallery, top_k(similarity, gallery.images, gallery.texts, k)
        self._forget()

    def _judges(self) -> tuple[Similarity, Gallery]:
        """What scores, and what it scores."""
        gallery = self.recall.gallery()
        if not self.voters:
            return self.similarity, gallery
        own = Voter(self.weight, self.similarity, gallery)
        return together([own, *self.voters], self.device)

    def _forget(self) -> None:
        self.recall.reset()
        self.voters = ()


def _layout(records: Iterable[Record]) -> Layout:
    return {record.image_id: record.text_ids for record in records if record.texts}
