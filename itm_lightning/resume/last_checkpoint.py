"""The checkpoint from which a run is resumed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import override

from itm_lightning.errors import Positive, Size, check_numbers
from itm_lightning.resume import progress
from itm_lightning.resume.best_checkpoint import AtomicCheckpointIO
from itm_lightning.utils.atomic_files import remove_unfinished
from itm_lightning.utils.internals import between_steps, ends_within_epoch


class Cadence:
    """How often ``last.ckpt`` is written within an epoch; it is also written after validations.

    Args:
        minutes: the time after which it is written again.
        steps: the number of optimiser steps after which it is also written again.

    Raises:
        InputError: either is out of range.
    """

    def __init__(self, minutes: Positive = 10.0, steps: Size | None = None) -> None:
        check_numbers(Cadence, locals())
        self.minutes, self.steps = minutes, steps
        self.restart(0)

    def restart(self, step: int) -> None:
        """Counts time and steps from now, which is this step of the optimiser."""
        self._since = time.monotonic(), step

    def due(self, step: int) -> bool:
        """Whether the checkpoint is to be written at this step."""
        then, first = self._since
        late = time.monotonic() - then >= 60 * self.minutes
        return late or (self.steps is not None and step - first >= self.steps)


class StopSignals:
    """Catches SIGTERM and Ctrl-C; a second Ctrl-C stops at once.

    Lightning's own handler of SIGTERM starts a collective, possibly within another one.

    Args:
        stop: called with the exception by which the run is to end.
    """

    def __init__(self, stop: Callable[[BaseException], None]) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def catch(self) -> None:
        """From now on, signals wait for the end of a step."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python handles signals in the main thread only
        handlers = {signal.SIGTERM: self._sigterm, signal.SIGINT: self._sigint}
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}

    def release(self) -> None:
        """Restores the handlers from before."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def _sigterm(self, *_: Any) -> None:
        self._stop(SIGTERMException())

    def _sigint(self, *_: Any) -> None:
        if os.getpid() != self._process:
            return  # a loader's process, forked from ours: its batches are still needed
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping at the next step; Ctrl-C again stops at once", flush=True)
        self._stop(KeyboardInterrupt())


_KEY = "resume"


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` so that a run stopped at any moment is resumed exactly from it.

    It is written between optimiser steps: after a batch, or before an epoch (which usually means
    after a validation). SIGTERM and Ctrl-C wait for the next of these. It is not written within
    the one epoch of a fit in closed form, which starts over. It holds all that Lightning stores,
    how many batches were taken from the loader, and every process's random numbers.

    Args:
        path: where it is written.
        cadence: how often it is written within an epoch.
    """

    def __init__(self, path: Path, cadence: Cadence) -> None:
        self.path = path
        self.cadence = cadence
        self._wanted = False
        self._ended_within_epoch = False
        self._stop: BaseException | None = None
        self._loaded: dict[str, Any] | None = None
        self._signals = StopSignals(self.stop)

    def stop(self, exception: BaseException) -> None:
        """Writes ``last.ckpt`` after the current step, and ends the run by ``exception``.

        For handlers of signals. One of the processes is enough: ``exception`` ends that one, and
        SIGTERMException the others.
        """
        self._stop = exception

    # -- when -----------------------------------------------------------------------------------

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.is_global_zero and self.path.parent.is_dir():
            remove_unfinished(self.path.parent)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._loaded is not None:
            progress.restore_loader(trainer, self._loaded["fit_loop"])
        progress.settle_buckets(trainer.strategy.model)
        self.cadence.restart(trainer.global_step)
        self._signals.catch()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._wanted |= trainer.state.fn == "fit" and not trainer.sanity_checking

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.resumes_mid_epoch and ends_within_epoch(trainer):
            self._wanted = True
            self._write_if_due(trainer)
            self._ended_within_epoch = True
            return
        if not between_steps(trainer):
            return
        if pl_module.resumes_mid_epoch:
            self._write_if_due(trainer)
        elif _any(trainer, self._stop is not None):
            raise self._stop or SIGTERMException()  # the next start begins the epoch anew

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._write_if_due(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self._ended_within_epoch:  # by then Lightning counts the epoch as done
            self._wanted = True
            self._write_if_due(trainer)
        self._signals.release()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._signals.release()

    def _write_if_due(self, trainer: pl.Trainer) -> None:
        stopping = self._stop is not None
        due = self._wanted or stopping or self.cadence.due(trainer.global_step)
        if trainer.fast_dev_run or not _any(trainer, due):  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(self.path)
        for logger in trainer.loggers:
            logger.save()  # so that the log is as complete as the checkpoint
        self._wanted = False
        self.cadence.restart(trainer.global_step)
        if _any(trainer, stopping):
            if trainer.is_global_zero:
                print(f"\nstopped at step {trainer.global_step}; saved {self.path}", flush=True)
            raise self._stop or SIGTERMException()

    # -- what -----------------------------------------------------------------------------------

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        progress.normalise_counters(checkpoint["loops"]["fit_loop"])
        checkpoint[_KEY] = {
            "random": progress.random_states(),
            "results": dict(pl_module.results),
            "metrics": {key: value.cpu() for key, value in trainer.callback_metrics.items()},
        }

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit" and _KEY in checkpoint:
            self._loaded = {**checkpoint[_KEY], "fit_loop": checkpoint["loops"]["fit_loop"]}
            pl_module.results = dict(checkpoint[_KEY]["results"])

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        progress.finish_restart(trainer)
        pl_module.results = dict(loaded["results"])  # the sanity check has replaced them
        # a scheduler that watches a score needs it before the next validation
        trainer.callback_metrics.update(loaded["metrics"])
        progress.restore_random_state(loaded["random"])


def _any(trainer: pl.Trainer, here: bool) -> bool:
    """Whether it is true in any of the processes."""
    return trainer.strategy.reduce_boolean_decision(here, all=False)
