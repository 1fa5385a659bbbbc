"""Runs that are stopped from outside, by SIGTERM, Ctrl-C or SLURM, and resumed later."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import override

from itm_lightning.cli.loggers import MetricsCSV
from itm_lightning.cli.processes import SlurmJob, is_first
from itm_lightning.errors import InputError, refused
from itm_lightning.resume import LastCheckpoint

_STOPPED = 128 + signal.SIGTERM  # the status that a shell gives a process ended by SIGTERM


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within it, SIGTERM and in a SLURM job SIGUSR1 raise SIGTERMException.

    They are caught for as long as the command runs: before, between and after Lightning's loops,
    too. While training, :class:`PreemptionCallback` waits for the end of a step instead.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    caught = [signal.SIGTERM, *([signal.SIGUSR1] if SlurmJob.here() else [])]
    stop = _StopHere(os.getpid())
    before = {number: signal.signal(number, stop) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class _StopHere:
    """A handler of signals; in a loader's process, forked from ours, it does nothing."""

    process: int

    def __call__(self, *_: Any) -> None:
        if os.getpid() == self.process:
            raise SIGTERMException(_STOPPED)


class PreemptionCallback(Callback):
    """Lets :class:`~itm_lightning.resume.LastCheckpoint` act on SLURM's signal, as on SIGTERM.

    Args:
        last: None where no checkpoint is written.
    """

    def __init__(self, last: LastCheckpoint | None) -> None:
        self.last = last

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if SlurmJob.here() and self.last is not None:
            signal.signal(signal.SIGUSR1, self._stop_at_step)

    def _stop_at_step(self, *_: Any) -> None:
        assert self.last is not None
        self.last.stop(SIGTERMException(_STOPPED))

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # Lightning's own handler of SIGTERM waits for other processes, wherever they are.
        if trainer.state.fn != "fit":
            signal.signal(signal.SIGTERM, _StopHere(os.getpid()))

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if not isinstance(exception, SIGTERMException) or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and SlurmJob.here():
                logger.experiment.mark_preempting()  # so that a sweep starts the run again


def requeue_stopped() -> int:
    """Asks SLURM to start the job again, and prints so; the status to exit with."""
    if not is_first():
        return 0  # the first process's status counts
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # once is enough
    job = SlurmJob.here()
    print("stopped" if job is None else f"stopped; {job.requeue()}", flush=True)
    return _STOPPED


class ResumeCallback(Callback):
    """Checks that all processes resume from the same checkpoint, or none does.

    It also removes from ``metrics.csv`` the steps that will be done again, and says which file is
    at fault where one holds something that Lightning cannot resume from.

    Args:
        path: the checkpoint that this process has found; None at the run's first start.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._resumed = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        found = self.path is not None
        if trainer.strategy.reduce_boolean_decision(found, all=False) and not (
            trainer.strategy.reduce_boolean_decision(found, all=True)
        ):
            raise InputError(
                "some of the processes do not find the last.ckpt to resume from: "
                "--trainer.default_root_dir must lie on a file system that all nodes share"
            )

    @override
    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._resumed = True

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if trainer.ckpt_path and not self._resumed and isinstance(exception, Exception):
            with refused(f"a run cannot go on from {trainer.ckpt_path}, which does not fit it"):
                raise exception

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._resumed = True
        if self.path is not None and trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, MetricsCSV):
                    logger.forget_from(trainer.global_step)
