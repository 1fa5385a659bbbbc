"""RetrievalModule: how a LightningModule scores a split, whatever it learns and however."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from itm_lightning.data import ITMDataModule
from itm_lightning.data.validation import warn_of_texts
from itm_lightning.distributed import Processes, ShardedFeatures, all_processes
from itm_lightning.errors import InputError
from itm_lightning.metrics import BidirectionalRecall, Gallery
from itm_lightning.metrics.hubness import hub_report
from itm_lightning.metrics.protocols import Evaluation, Protocol, Retrieval
from itm_lightning.ranking import Neighbours, Ranks, rank_and_top_k, top_k
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.hub_correction import HubCorrection
from itm_lightning.types import AnyFeatures, Batch, Rows
from itm_lightning.utils.progress_bars import progress_bar

_PLAIN = Retrieval()
_QUERIES_AT_ONCE = 32


@dataclass(frozen=True)
class OwnQueries:
    """Images and texts of no dataset, for which a split is searched.

    Attributes:
        images: their files.
        texts: any strings.
    """

    images: Sequence[str | Path] = ()
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Retrieved:
    """What ``trainer.predict`` found.

    Attributes:
        gallery: the split.
        i2t: the nearest texts of every image of the gallery, or of every own image, if any.
        t2i: the nearest images of every text of the gallery, or of every own text, if any.
        ranks: of the gallery's right answers; ``None`` for own queries, which have none.
    """

    gallery: Gallery
    i2t: Neighbours | None
    t2i: Neighbours | None
    ranks: Ranks | None


class MeanLoss(typing.Protocol):
    """A loss that is added up batch by batch."""

    def compute(self, processes: Processes) -> float | None:
        """The mean over all processes, and a new beginning; None where there was no batch."""


class RetrievalModule(pl.LightningModule, ABC):
    """Scores the images and texts of a split, and retrieves them.

    At the end of an evaluation epoch it logs ``val/…`` or ``test/…`` for each key of
    :class:`~itm_lightning.metrics.BidirectionalRecall`, and ``…/pairs_accuracy`` where the source
    has minimal pairs.

    Args:
        similarity: the head.

    Attributes:
        similarity: the head.
        recall: collects features, over that head.
        protocol: decides what ``trainer.validate`` and ``trainer.test`` score, and may be set at
            any time; see also :attr:`protocol_of_epochs`.
        hub_correction: by which they score a second time, and log ``test/NNN_rsum`` and so on; none
            by default.
        evaluation: the last one.
        n_models: how many models' scores the similarity averages.
        results: what was logged of evaluations, as Python floats.
        validation_loss: logged beside the scores of val, where a subclass adds up any.
        k: how many answers ``trainer.predict`` finds for each query.
        own_queries: what it asks; where there are none, every image and every text of the split.
        retrieved: what it found last.
        compiles: whether ``torch.compile`` is still to be applied.
    """

    compiles: bool = False

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity
        self.recall = BidirectionalRecall(similarity)
        self.protocol: Protocol = Retrieval()
        self.hub_correction: HubCorrection | None = None
        self.n_models = 1
        self.evaluation: Evaluation | None = None
        self.results: dict[str, float] = {}
        self.validation_loss: MeanLoss | None = None
        self.k = 10
        self.own_queries = OwnQueries()
        self.retrieved: Retrieved | None = None
        self._asked: tuple[ShardedFeatures | None, ShardedFeatures | None] = None, None

    @property
    def resumes_mid_epoch(self) -> bool:
        """Whether a checkpoint in the middle of an epoch holds all that the rest of it needs."""
        return True

    @abstractmethod
    def encode_images(self, images: Any) -> AnyFeatures:
        """Images into the space in which they are compared."""

    @abstractmethod
    def encode_texts(self, texts: Any) -> AnyFeatures:
        """Texts into the space in which they are compared."""

    @property
    def protocol_of_epochs(self) -> Protocol:
        """By which ``trainer.fit`` scores its validation epochs: the protocol where that has a
        monitor, and else, as a protocol may be for the test split alone, plain Retrieval.
        """
        return _PLAIN if self.protocol.monitor is None else self.protocol

    @property
    def data(self) -> ITMDataModule:
        """The trainer's data module.

        Raises:
            InputError: it is none of this package.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ITMDataModule):
            raise InputError("the Trainer needs its data as trainer.fit(matcher, datamodule=…)")
        return data

    def check_evaluation(self, stage: str) -> None:
        """Checks it before any long work: the test after a fit must not be refused after hours.

        Raises:
            InputError: the protocol is not for the split that it will score, the hub correction has
                nothing to score, or one of them reads the train split, and there is none.
        """
        if stage == "predict":
            if self.hub_correction is not None:
                raise InputError(
                    "hub_correction is for validate and test; predict retrieves by the scores of "
                    "the head: leave it out"
                )
        else:
            name = type(self.protocol).__name__
            for reads, is_asked in (
                ("hub_correction takes its bank from", self.hub_correction is not None),
                (f"protocol {name} reads", self.protocol.reads_train),
            ):
                if is_asked and not self.data.has_split("train"):
                    raise InputError(
                        f"{reads} the train split, and {type(self.data.source).__name__} has none: "
                        "leave it out"
                    )
            self.protocol.check_head(self.similarity)
        if stage in ("validate", "test"):
            split = "val" if stage == "validate" else "test"
            self.protocol.check(self.data.ground_truth(split))
            warn_of_texts(self, self.data.source, self.data.records(split), split)
        elif stage == "fit":
            for split, protocol in (("val", self.protocol_of_epochs), ("test", self.protocol)):
                if self.data.has_split(split):
                    protocol.check(self.data.ground_truth(split))

    @override
    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self.test_step(batch, batch_index)

    @override
    def test_step(self, batch: Batch, batch_index: int) -> None:
        self.encode_into(self.recall, batch)

    predict_step = test_step

    def encode_into(self, recall: BidirectionalRecall, batch: Batch) -> None:
        """Encodes a batch, and keeps its features in a metric."""
        images = self.encode_images(batch.images)
        texts = self.encode_texts(batch.texts) if batch.texts else None  # all are distractors
        recall.update(images, texts, *batch.ids)

    @override
    def on_validation_epoch_end(self) -> None:
        self.evaluate_epoch("val")

    @override
    def on_test_epoch_end(self) -> None:
        self.evaluate_epoch("test")

    @override
    def on_predict_start(self) -> None:
        own = self.own_queries  # encoded first: a file that cannot be read is no news for the end
        with self.trainer.precision_plugin.forward_context():  # as the gallery is encoded
            self._asked = (
                self._encoded_queries(self.encode_images, own.images),
                self._encoded_queries(self.encode_texts, own.texts),
            )

    @override
    def on_predict_epoch_end(self) -> None:
        self.retrieve()

    def evaluate_epoch(self, split: str) -> None:
        """Scores what the epoch's steps have encoded, and forgets it; a collective."""
        gallery = self.recall.gallery()
        fitting = self.trainer.state.fn == "fit"
        protocol = self.protocol_of_epochs if fitting else self.protocol
        truth = self.data.ground_truth(split)
        train = None
        if not fitting and (self.hub_correction is not None or protocol.reads_train):
            with self.trainer.precision_plugin.forward_context():  # as the gallery was encoded
                bank = encode_split(self, self.data, "train")
            train = bank, self.data.ground_truth("train")
        evaluation = protocol.evaluate(self.similarity, gallery, truth, train)
        named = {f"{split}/{key}": value for key, value in evaluation.scores.items()}
        if self.hub_correction is not None and train is not None:
            ranked = self.similarity, gallery, train[0]
            found = hub_report(*ranked, self.hub_correction, protocol, truth)
            evaluation = replace(evaluation, hub_correction=found)
            name = type(self.hub_correction).__name__
            named |= {f"{split}/{name}_{key}": value for key, value in found["scores"].items()}
        self.evaluation = replace(evaluation, models=self.n_models)
        self.recall.reset()
        if split == "val" and self.validation_loss is not None:
            loss = self.validation_loss.compute(all_processes())
            named |= {} if loss is None else {"val/loss": loss}
        others = {k: v for k, v in self.results.items() if not k.startswith(f"{split}/")}
        self.results = others | named
        for key, value in named.items():
            self.log(key, value, prog_bar=key.endswith("rsum"))

    def retrieve(self) -> None:
        """Finds the nearest of all that was encoded, and forgets it; a collective."""
        gallery, (images, texts) = self.recall.gallery(), self._asked
        head, k = self.similarity, self.k
        if images is None and texts is None:
            ids = gallery.image_ids, gallery.text_image_ids
            ranks, top = rank_and_top_k(head, gallery.images, gallery.texts, *ids, k)
            self.retrieved = Retrieved(gallery, top.i2t, top.t2i, ranks)
        else:
            i2t = None if images is None else top_k(head, images, gallery.texts, k).i2t
            t2i = None if texts is None else top_k(head, gallery.images, texts, k).t2i
            self.retrieved = Retrieved(gallery, i2t, t2i, ranks=None)
        self.recall.reset()

    @torch.no_grad()
    def _encoded_queries(
        self, encode: Callable[[list[Any]], AnyFeatures], queries: Sequence[Any]
    ) -> ShardedFeatures | None:
        """Their features, which the first process holds; a collective."""
        if not queries:
            return None
        processes, features = all_processes(), None
        if processes.rank == 0:
            starts = range(0, len(queries), _QUERIES_AT_ONCE)
            parts = [encode(list(queries[i : i + _QUERIES_AT_ONCE])) for i in starts]
            features = Rows.cat(parts)
        return ShardedFeatures.of(features, self.device, processes)


@torch.no_grad()
def encode_split(module: RetrievalModule, data: ITMDataModule, split: str) -> Gallery:
    """Encodes the images and texts of a split, without a Trainer; a collective.

    Args:
        module: in evaluation mode.
        data: connected to the module's image encoder.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        The features as the module's head reads them, each image and text once; on several
        processes each encodes and holds a share.
    """
    encoded = BidirectionalRecall(module.similarity).to(module.device)
    for batch in progress_bar(data.evaluation_loader(split), desc=f"encode {split}", leave=False):
        module.encode_into(encoded, batch.to(module.device))
    return encoded.gallery()
