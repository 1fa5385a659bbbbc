"""Matcher: the LightningModule that trains, composed of encoders, projections, head and loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from itm_lightning.distributed import Processes, SingleProcess, all_processes
from itm_lightning.encoders.base import ImageEncoder, TextEncoder
from itm_lightning.encoders.projection import (
    LinearProjection,
    NoProjection,
    Projection,
    build_projections,
)
from itm_lightning.errors import InputError, NotNegative, Share, Size, check_numbers
from itm_lightning.evaluating import RetrievalModule
from itm_lightning.objectives import InfoNCE
from itm_lightning.objectives.base import Objective
from itm_lightning.objectives.comparison import Comparison, LocalComparison
from itm_lightning.objectives.distributed_comparison import DistributedComparison
from itm_lightning.part import given_extra_states, load_extra_states
from itm_lightning.sharding import checkpoint_layout, clip_gradients, shard_trunks, synchronise
from itm_lightning.similarity import Cosine
from itm_lightning.similarity.base import ClosedForm, Similarity
from itm_lightning.training.checkpoint import add_matcher, check_loss, checked_state, load_matcher
from itm_lightning.training.closed_form import ClosedFormFit, prepare_solution
from itm_lightning.training.gradient_cache import check_chunks, encode_by_chunks
from itm_lightning.training.learning_from_data import learn_from_data
from itm_lightning.training.parameter_groups import freeze_unused, groups_by_factor, make_optimizer
from itm_lightning.training.schedules import with_schedule
from itm_lightning.training.trainer_rules import check_trainer
from itm_lightning.training.validation_loss import ValidationLoss
from itm_lightning.types import Batch, EncodedBatch, Features, Widths


class Matcher(RetrievalModule):
    """Matches images with texts; every part comes from YAML.

    Where several processes train, their batches are one: each scores its own images and texts
    against those of all, and loss and gradients are those of one process with the whole batch (of
    one step; accumulated steps remain batches of their own).

    Logs ``train/loss``, the whole batch's on every process; in a fit ``val/loss``; and what
    :class:`~itm_lightning.evaluating.RetrievalModule` logs.

    Args:
        image_encoder: images to features; it has its own transform.
        text_encoder: texts to features; it has its own tokeniser.
        similarity: features to scores; :class:`~itm_lightning.similarity.Cosine` by default.
        objective: scores to loss; :class:`~itm_lightning.objectives.InfoNCE` by default.
        dim: width of the space in which images and texts are compared, where the projections are
            left to their default.
        dropout: share of the encoders' channels dropped before those projections.
        image_projection: from the image encoder's width into that space; linear by default, and
            none for a head that is solved in closed form.
        text_projection: the same for texts.
        shared_projection: applied to both sides after their own projections; none by default.
        optimizer: any torch optimiser.
        scheduler: any torch scheduler, stepped once an epoch; ``WarmupCosine`` at every step.
        lr_factors: prefix of parameters' names → factor on their learning rate;
            ``{image_encoder.network: 0.1}`` trains the trunk ten times slower.
        compile: runs encoders and similarity through ``torch.compile``.
        gradient_cache: pairs encoded at a time, for batches larger than memory; all by default.

    Raises:
        InputError: the similarity cannot compare features of these widths.
    """

    validation_loss: ValidationLoss | None

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        similarity: Similarity | None = None,
        objective: Objective | None = None,
        dim: Size = 512,
        dropout: Share = 0.0,
        image_projection: Projection | None = None,
        text_projection: Projection | None = None,
        shared_projection: Projection | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
        lr_factors: dict[str, NotNegative] | None = None,
        compile: bool = False,
        gradient_cache: Size | None = None,
    ) -> None:
        check_numbers(Matcher, locals())
        super().__init__(Cosine() if similarity is None else similarity)
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        # where a checkpoint is read, an encoder knows its width only from its extra state
        for name in sorted(given_extra_states().keys() & {"image_encoder", "text_encoder"}):
            getattr(self, name).load_extra_state(given_extra_states()[name])
        self._arguments: dict[str, Any] = {
            "dim": dim,
            "dropout": dropout,
            "image_projection": image_projection,
            "text_projection": text_projection,
            "shared_projection": shared_projection,
        }
        self.objective = InfoNCE() if objective is None else objective
        head = self.similarity
        self._closed_form = ClosedFormFit(head) if isinstance(head, ClosedForm) else None
        self._trains = self._closed_form is None or self.objective.trains_before_solving
        default = (lambda: LinearProjection(dim, dropout)) if self._trains else NoProjection
        self.image_projection: Projection = image_projection or default()
        self.text_projection: Projection = text_projection or default()
        self.shared_projection: Projection = shared_projection or NoProjection()
        widths = build_projections(
            *(image_encoder.dim, self.image_projection),
            *(text_encoder.dim, self.text_projection),
            self.shared_projection,
        )
        self.similarity.build(*widths)
        self.objective.build(Widths(image_encoder.dim, text_encoder.dim, *widths))
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._lr_factors = lr_factors or {}
        self.compiles = compile
        self._gradient_cache = gradient_cache
        self._processes: Processes = SingleProcess()
        self._sharded = False

    # -- what the parts make of images and texts -----------------------------------------------

    def encode_images(self, images: Any) -> Features:
        """Images into the space in which they are compared; those features that the head reads.

        Args:
            images: one or many, see :meth:`~itm_lightning.encoders.ImageEncoder.pixels`.
        """
        return self.project(self.image_encoder(self.image_encoder.pixels(images)), "image")

    def encode_texts(self, texts: str | list[str] | Features) -> Features:
        """One text or many into that space, or what the text encoder reads in their place."""
        return self.project(self.text_encoder([texts] if isinstance(texts, str) else texts), "text")

    def forward(self, images: Any, texts: str | list[str]) -> Tensor:
        """Scores ``(n_images, n_texts)``; arguments as above."""
        return self.similarity(self.encode_images(images), self.encode_texts(texts))

    def encode_batch(self, batch: Batch) -> EncodedBatch:
        """What the encoders and projections make of a batch of pairs."""
        if self._gradient_cache is not None:
            size, ids = self._gradient_cache, batch.image_ids
            images = encode_by_chunks(self.encode_images, batch.images, size, ids)
            texts = encode_by_chunks(self.encode_texts, batch.texts, size, ids)
            encoded_images = encoded_texts = None
        else:
            encoded_images = self.image_encoder(batch.images)
            encoded_texts = self.text_encoder(batch.texts)
            images = self.project(encoded_images, "image")
            texts = self.project(encoded_texts, "text")
        reading = self.text_encoder.token_ids, self.text_encoder.words
        return EncodedBatch(batch, images, texts, encoded_images, encoded_texts, *reading)

    def project(self, encoded: Features, side: str) -> Features:
        """What the head reads of an encoder's features, projected."""
        try:
            selected = self.similarity.select(encoded)
        except InputError as error:
            name = type(getattr(self, f"{side}_encoder")).__name__
            raise InputError(f"{name} does not give what the head reads: {error}") from error
        return self.shared_projection(getattr(self, f"{side}_projection")(selected))

    # -- the loops ------------------------------------------------------------------------------

    @override
    def configure_callbacks(self) -> list[pl.Callback]:
        if self.trainer.state.fn == "fit":  # before callbacks copy it, to average weights
            learn_from_data(self, self.data, self.trainer.world_size if self._trains else 0)
        return []

    def setup(self, stage: str) -> None:
        """Checks everything before any long work."""
        self.data.connect(self.image_encoder, every_pair_once=not self._trains)
        check_trainer(self.trainer, self)
        groups_by_factor(self, self._lr_factors)
        self.check_evaluation(stage)
        if stage == "fit":
            self._processes = all_processes()
            if self._gradient_cache is not None:
                check_chunks(self)
            freeze_unused((self.image_encoder, self.text_encoder), self.similarity)
            self.validation_loss = ValidationLoss() if self._trains else None
            if self._closed_form is not None:
                prepare_solution(self, self.similarity, self.trainer, self._trains)
        self.compile_parts()

    def compile_parts(self) -> None:
        """Compiles encoders and similarity where the Matcher was made to; once is enough."""
        if self.compiles:
            for part in (self.image_encoder, self.text_encoder, self.similarity):
                part.compile(dynamic=True)
            self.compiles = False

    @override
    def configure_model(self) -> None:
        self._sharded = shard_trunks(self, self.trainer.strategy)

    @override
    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        if self._closed_form is not None and not self._trains:
            with torch.no_grad():
                encoded = self.eval().encode_batch(batch)
            return self._closed_form.step(encoded, self.trainer.is_last_batch, self._processes)
        comparison = self.compare(batch)
        share = self.objective.loss(comparison)
        if self._closed_form is not None:
            self._closed_form.step(comparison.encoded, self.trainer.is_last_batch, self._processes)
        loss = comparison.total(share.detach())
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.texts))
        # Lightning averages the processes' gradients; those of their shares are to be summed
        return self._processes.size * share

    @override
    def validation_step(self, batch: Batch, batch_index: int) -> None:
        if self.validation_loss is None or not batch.texts:
            return self.test_step(batch, batch_index)
        encoded = self.encode_batch(batch)
        self.recall.update(encoded.images, encoded.texts, *batch.ids)
        self.validation_loss.update(self.objective, self.similarity, encoded)

    def compare(self, batch: Batch) -> Comparison:
        """What the objective reads of a batch."""
        encoded = self.encode_batch(batch)
        if self._processes.size == 1:
            return LocalComparison(self.similarity, encoded)
        return DistributedComparison(self.similarity, encoded, self._processes)

    @override
    def configure_optimizers(self) -> Any:
        if not self._trains:
            return None
        optimizer = make_optimizer(self._make_optimizer, self, self._lr_factors)
        return with_schedule(optimizer, self._make_scheduler, self)

    @override
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        check_loss(self.trainer)
        if self._sharded:
            synchronise(self)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip = gradient_clip_val, gradient_clip_algorithm
        if not (self._sharded and clip_gradients(self, optimizer, *clip)):
            super().configure_gradient_clipping(optimizer, *clip)

    # -- checkpoints ----------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a fresh process needs; refuses weights that are not finite."""
        checkpoint_layout(self, checkpoint, self.trainer.optimizers)
        add_matcher(checkpoint, self, self._arguments, self.trainer.global_step)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        load_extra_states(self, checked_state(checkpoint, "the checkpoint")["extra_state"])

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = "cpu",
        trust: Sequence[str] = (),
        **kwargs: Any,
    ) -> Self:
        """Builds the Matcher a checkpoint holds, ready for inference, from that file alone.

        Args:
            checkpoint_path: a checkpoint written by ``fit``.
            map_location: the device it goes to.
            trust: modules of parts that it may build, too; see :mod:`itm_lightning.part`.
            **kwargs: constructor arguments that replace the checkpoint's.

        Raises:
            InputError: the file cannot be read, or names a class that may not be built.
        """
        return load_matcher(cls, Path(checkpoint_path), map_location, trust, kwargs)

    @property
    @override
    def resumes_mid_epoch(self) -> bool:
        return self._closed_form is None  # its sums are not in a checkpoint
