"""What is logged of a training step beside its loss."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError

_OF_TRAINING = {"train/loss", "train/lr", "train/temperature", "train/images_per_second"}
_POINTS = 50  # that the curves of a short run have
_MOST_STEPS = 50  # between two points of a long one


class Measurements(Callback):
    """Logs, beside ``train/loss`` and at the same steps, what it depends on.

    ``train/lr``: the learning rate, the highest where groups of parameters differ.
    ``train/temperature``: what scores are divided by, where the objective, one of its members or
    the head has such a tensor as its ``temperature``.
    ``train/images_per_second``: the images (one a pair) of all processes in this epoch so far,
    divided by its time without validation.

    Args:
        log_every_n_steps: the trainer's own, where the user chose it. Otherwise curves have a point
            every 50 steps, and in shorter runs as many points as there are steps, up to 50.
    """

    def __init__(self, log_every_n_steps: int | None = None) -> None:
        self.log_every_n_steps = log_every_n_steps
        self._images = 0
        self._seconds = 0.0  # of this epoch, up to its last validation
        self._since = 0.0  # when training began or went on

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self.log_every_n_steps is None and stage == "fit":
            trainer.log_every_n_steps = 1  # until the steps are known, and can be counted

    @override
    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Refuses callbacks that watch what is never logged, before the first epoch.

        Raises:
            InputError: there is such a callback; the message says what is logged.
        """
        logged = _OF_TRAINING | trainer.callback_metrics.keys()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            watches = isinstance(callback, EarlyStopping | ModelCheckpoint) and monitor is not None
            if watches and monitor not in logged:
                raise InputError(
                    f"{type(callback).__name__} watches {monitor!r}, which is never logged; there "
                    f"are {', '.join(sorted(logged))}"
                )

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.log_every_n_steps is None:
            steps = min(trainer.estimated_stepping_batches, _POINTS * _MOST_STEPS)
            trainer.log_every_n_steps = max(1, int(steps) // _POINTS)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._images, self._seconds, self._since = 0, 0.0, time.monotonic()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        groups = [group for each in trainer.optimizers for group in each.param_groups]
        if groups:  # a closed-form fit has none
            pl_module.log("train/lr", max(group["lr"] for group in groups))
        temperature = temperature_of(pl_module)
        if temperature is not None:
            pl_module.log("train/temperature", temperature)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch.image_ids) * trainer.world_size
        seconds = self._seconds + time.monotonic() - self._since
        pl_module.log("train/images_per_second", self._images / seconds)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._seconds += time.monotonic() - self._since

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._since = time.monotonic()


def temperature_of(module: Any) -> Tensor | None:
    """The first temperature of a Matcher's objective, of its members and of the head; detached."""
    for part in (*module.objective.modules(), module.similarity):
        temperature = getattr(part, "temperature", None)
        if isinstance(temperature, Tensor):
            return temperature.detach()
    return None
