"""A run that goes on from its own checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from typing_extensions import override

from itm_lightning.cli.loggers import MetricsCSV
from itm_lightning.errors import InputError


class GoingOn(Callback):
    """Sees to it that all processes go on from the same checkpoint, or none does.

    Args:
        path: of the checkpoint that this process has seen; None at the run's first start.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        seen = self.path is not None
        if trainer.strategy.reduce_boolean_decision(seen, all=False) and not (
            trainer.strategy.reduce_boolean_decision(seen, all=True)
        ):
            raise InputError(
                "some of the processes do not see the last.ckpt to go on from: "
                "--trainer.default_root_dir must lie on a file system that all nodes share"
            )

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.path is not None and trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, MetricsCSV):
                    logger.forget_from(trainer.global_step)
