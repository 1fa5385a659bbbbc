"""The checkpoint of the best score, and checkpoints that are whole or not there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint
from typing_extensions import override

from itm_lightning.utils.atomic_files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one it replaces, and puts it in its place at once.

    Lightning's own empties the old file first, and makes a second copy in memory.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if "://" in str(path):  # an object store replaces at once of its own accord
            return super().save_checkpoint(checkpoint, path, storage_options)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)


class BestCheckpoint(ModelCheckpoint):
    """Writes ``best.ckpt`` where ``val/rsum`` is higher than ever before, before a resume included.

    Args:
        folder: where it lies.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            filename="best",
            monitor="val/rsum",
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        with warnings.catch_warnings():
            # a run that goes on finds what it left
            warnings.filterwarnings("ignore", ".*exists and is not empty")
            super().setup(trainer, pl_module, stage)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning's forgets the score where the run goes on in another folder.
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
