"""Matcher: the one LightningModule, composed of encoders, a similarity and an objective."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.distributed import all_processes
from itm_lightning.encoders.base import ImageEncoder, TextEncoder, assets_at_hand, restoring
from itm_lightning.encoders.projection import Projection
from itm_lightning.errors import InputError
from itm_lightning.evaluating import EvaluatingModule
from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.objectives.base import Objective
from itm_lightning.part import from_config, to_config
from itm_lightning.sharding import ShardingModule, separate
from itm_lightning.similarity.base import Similarity
from itm_lightning.training.combinations import check_combinations
from itm_lightning.training.comparing import compare
from itm_lightning.training.gradient_cache import check_chunks, checked_size, encode_by_chunks
from itm_lightning.training.parameter_groups import freeze_unused, groups_by_factor
from itm_lightning.training.schedules import WarmupCosine
from itm_lightning.types import Batch, Features

_PARTS = ("image_encoder", "text_encoder", "similarity", "objective")


class Matcher(ShardingModule, EvaluatingModule):
    """Matches photos with captions; every part comes from YAML.

    Where several processes train, their batches are one: each scores its own photos and captions
    against everybody's, and loss and gradients are those of one process with the whole batch (of
    one step; accumulated steps remain batches of their own).

    Logs ``train/loss``, the whole batch's on every process; what it logs of evaluations, see
    :class:`~itm_lightning.evaluating.EvaluatingModule`.

    Args:
        image_encoder: photos to features; owns its transform.
        text_encoder: captions to features; owns its tokeniser.
        similarity: features to scores.
        objective: scores to loss.
        dim: width of the common space.
        dropout: share of the encoders' channels dropped before the projection.
        optimizer: any torch optimiser.
        scheduler: any torch scheduler, stepped once an epoch, or
            :class:`~itm_lightning.training.schedules.WarmupCosine`, stepped at every step.
        lr_factors: learning rates by part, as prefix of the parameter's name → factor on the
            optimiser's rate; ``{image_encoder.network: 0.1}`` trains the trunk ten times slower.
        compile: runs encoders and similarity through ``torch.compile``.
        gradient_cache: pairs encoded at a time, for batches larger than memory: one chunk's
            activations at most are kept, and each chunk is encoded twice (see
            :mod:`~itm_lightning.training.gradient_cache`). All at once where ``None``.

    Raises:
        InputError: the similarity was built for another ``dim``.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        similarity: Similarity,
        objective: Objective,
        dim: int = 512,
        dropout: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
        lr_factors: dict[str, float] | None = None,
        compile: bool = False,
        gradient_cache: int | None = None,
    ) -> None:
        super().__init__()
        similarity.check_dim(dim)
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        for name, encoder in self._encoders():
            # From a checkpoint's assets where one is being read: only then is the width known.
            encoder.restore(assets_at_hand().get(name, encoder.assets()))
        self.image_projection = Projection(image_encoder.dim, dim, dropout)
        self.text_projection = Projection(text_encoder.dim, dim, dropout)
        self.similarity = similarity
        self.objective = objective
        self.recall = BidirectionalRecall(similarity)
        self._dims = {"dim": dim, "dropout": dropout}
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._lr_factors = lr_factors or {}
        self._compile = compile
        self._gradient_cache = checked_size(gradient_cache)

    # -- what the parts make of photos and captions --------------------------------------------

    def encode_images(self, images: Tensor | Features) -> Features:
        """Photos (pixels ``(B, 3, H, W)`` or a frozen trunk's tokens) into the common space."""
        return self.image_projection(self._read(self.image_encoder, images))

    def encode_texts(self, texts: list[str]) -> Features:
        """Captions into the common space."""
        return self.text_projection(self._read(self.text_encoder, texts))

    def forward(self, images: Tensor | Features, texts: list[str]) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        return self.similarity(self.encode_images(images), self.encode_texts(texts))

    def _read(self, encoder: ImageEncoder | TextEncoder, inputs: Any) -> Features:
        """What the head reads of an encoder's features."""
        features = encoder(inputs)
        try:
            return self.similarity.select(features)
        except InputError as error:
            name = type(encoder).__name__
            raise InputError(f"{name} does not give what the head reads: {error}") from error

    # -- the loops ------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Learns the vocabulary from the train split alone; checks names before any long work."""
        check_combinations(self.trainer, self)
        groups_by_factor(self, self._lr_factors)
        self.check_protocol(stage)
        if stage == "fit" and self._gradient_cache is not None:
            for name, encoder in self._encoders():
                check_chunks(name, encoder)
        if stage == "fit":
            self.text_encoder.learn_vocabulary(self.data.train_texts())
            freeze_unused((self.image_encoder, self.text_encoder), self.similarity)
        if self._compile:
            for part in (self.image_encoder, self.text_encoder, self.similarity):
                part.compile(dynamic=True)
            self._compile = False  # once is enough for fit and the test after it

    @override
    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        processes, ids = all_processes(), (batch.image_ids, batch.text_image_ids)
        comparison = compare(self.similarity, *self._encode(batch), *ids, processes)
        share = self.objective.loss(comparison)
        loss = comparison.total(share.detach())
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.texts))
        # Lightning averages the processes' gradients; those of their shares are to be summed
        return processes.size * share

    def _encode(self, batch: Batch) -> tuple[Features, Features]:
        if self._gradient_cache is None:
            return self.encode_images(batch.images), self.encode_texts(batch.texts)
        how = self._gradient_cache, batch.image_ids
        return (
            encode_by_chunks(self.encode_images, batch.images, *how),
            encode_by_chunks(self.encode_texts, batch.texts, *how),
        )

    # -- optimisation ---------------------------------------------------------------------------

    @override
    def configure_optimizers(self) -> Any:
        groups = groups_by_factor(self, self._lr_factors)
        optimizer = self._make_optimizer([{"params": group} for group in groups.values()])
        for factor, group in zip(groups, optimizer.param_groups, strict=True):
            group["lr"] *= factor
        separate(optimizer)
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        interval = "epoch"
        if isinstance(scheduler, WarmupCosine):
            scheduler.plan(int(self.trainer.estimated_stepping_batches))
            interval = "step"
        settings = {"scheduler": scheduler, "interval": interval, "monitor": "val/rsum"}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    # -- checkpoints ----------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a fresh process needs to build this Matcher: plain values only."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["matcher"] = {
            "recipe": {name: to_config(getattr(self, name)) for name in _PARTS} | self._dims,
            "assets": {name: encoder.assets() for name, encoder in self._encoders()},
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "matcher" not in checkpoint:
            raise InputError("the checkpoint was not written by itm-lightning: it holds no Matcher")
        for name, encoder in self._encoders():
            encoder.restore(checkpoint["matcher"]["assets"][name])

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", **kwargs: Any
    ) -> Self:
        """Builds the Matcher a checkpoint holds, ready for inference, from that file alone.

        Args:
            checkpoint_path: a checkpoint written by ``fit``; read with ``weights_only=True``.
            map_location: the device it goes to.
            **kwargs: constructor arguments that replace the checkpoint's.

        Raises:
            InputError: the file was not written by itm-lightning.
        """
        checkpoint = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        if "matcher" not in checkpoint:
            raise InputError(f"{checkpoint_path} was not written by itm-lightning")
        with restoring(checkpoint["matcher"]["assets"]):
            parts = from_config(checkpoint["matcher"]["recipe"])
            matcher = cls(**{**parts, **kwargs})
        matcher.on_load_checkpoint(checkpoint)
        matcher.load_state_dict(checkpoint["state_dict"])
        return matcher.to(map_location).eval()

    @property
    def compiles(self) -> bool:
        """Whether ``torch.compile`` is to come."""
        return self._compile

    @override
    def trunks(self) -> Iterator[nn.Module]:
        return (encoder.network for _, encoder in self._encoders())

    def _encoders(self) -> Iterator[tuple[str, ImageEncoder | TextEncoder]]:
        yield "image_encoder", self.image_encoder
        yield "text_encoder", self.text_encoder
