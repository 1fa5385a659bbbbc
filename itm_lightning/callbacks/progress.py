"""What is printed of a model before it trains, and of progress where no bar can be drawn."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.table import Table
from torch import nn
from typing_extensions import override

from itm_lightning.part import Part


class EpochLines(ProgressBar):
    """Prints a line at the end of each training epoch, in place of Lightning's bar.

    It has the mean loss of the epoch's steps, ``val/rsum`` where the epoch was validated and the
    best so far, the seconds of the epoch with its validation, and about how long the rest takes,
    by the mean time of a step since this start.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._started = self._epoch_started = 0.0
        self._first_step = 0
        self._loss_sum: Any = 0.0  # a tensor: steps do not wait for the device
        self._losses = 0
        self._rsum: float | None = None  # of this epoch
        self._best: float | None = None

    @override
    def enable(self) -> None:
        self._is_enabled = True

    @override
    def disable(self) -> None:
        self._is_enabled = False

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started, self._first_step = time.monotonic(), trainer.global_step

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._epoch_started, self._rsum = time.monotonic(), None
        self._loss_sum, self._losses = 0.0, 0

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:  # a fit in closed form has none
            self._loss_sum, self._losses = self._loss_sum + loss, self._losses + 1

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or "val/rsum" not in trainer.callback_metrics:
            return
        self._rsum = float(trainer.callback_metrics["val/rsum"])
        self._best = self._rsum if self._best is None else max(self._best, self._rsum)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._is_enabled:
            print(" · ".join(self._parts(trainer)), flush=True)

    def _parts(self, trainer: pl.Trainer) -> list[str]:
        epochs = trainer.max_epochs or 0
        parts = [f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs > 0 else "")]
        if self._losses:
            parts.append(f"loss {float(self._loss_sum) / self._losses:.4g}")
        if self._rsum is not None:
            best = "best" if self._rsum == self._best else f"best {self._best:.1f}"
            parts.append(f"val rsum {self._rsum:.1f} ({best})")
        now = time.monotonic()
        parts.append(duration(now - self._epoch_started))
        steps = trainer.global_step - self._first_step
        left = trainer.estimated_stepping_batches - trainer.global_step
        if steps > 0 and 0 < left < float("inf"):
            parts.append(f"about {duration((now - self._started) / steps * left)} left")
        return parts


def duration(seconds: float) -> str:
    """Seconds as one reads them: ``0.4 s``, ``62 s``, ``5 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class ModelTable(Callback):
    """Prints the parts of the model and how many parameters each has.

    Lightning's own table has a column of FLOPs, which are 0 until something has run.
    """

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            Console().print(model_table(pl_module))


def model_table(module: nn.Module) -> Table:
    """The parts among the children of a module, and their parameters."""
    table = Table()
    for column in ("part", "class"):
        table.add_column(column)
    for column in ("parameters", "trainable"):
        table.add_column(column, justify="right")
    for name, part in module.named_children():
        if isinstance(part, Part):
            counts = (f"{count:,}" for count in parameter_counts(part))
            table.add_row(name, type(part).__name__, *counts)
    table.add_section()
    table.add_row("", "", *(f"{count:,}" for count in parameter_counts(module)))
    return table


def parameter_counts(module: nn.Module) -> tuple[int, int]:
    """The numbers of all parameters and of the trainable ones."""
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(p.numel() for p in parameters), trainable
