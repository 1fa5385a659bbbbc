"""The checkpoint of the best score, and how checkpoints are written."""

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
    """Writes a checkpoint beside the one that it replaces, and then renames it.

    A process that is killed leaves the old checkpoint intact. Lightning's own class empties the old
    file first, and makes a second copy in memory.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if "://" in str(path):  # an object store replaces a file only once it is complete
            return super().save_checkpoint(checkpoint, path, storage_options)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)


class BestCheckpoint(ModelCheckpoint):
    """Writes ``best.ckpt`` when a score is the highest of the run, over all its starts.

    Where there is nothing to validate on, the last epoch counts as the best.

    Args:
        folder: where it is written.
        score: its name among those of val.
    """

    def __init__(self, folder: Path, score: str) -> None:
        super().__init__(
            folder,
            filename="best",
            monitor=f"val/{score}",
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if not trainer.datamodule.has_split("val"):  # type: ignore[attr-defined]
            self.monitor = None
        with warnings.catch_warnings():
            # a resumed run finds its own files
            warnings.filterwarnings("ignore", ".*exists and is not empty")
            super().setup(trainer, pl_module, stage)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not Path(state_dict["best_model_path"]).is_file():
            return  # the best from now on
        # Lightning drops the best score if the run is resumed in another folder.
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
