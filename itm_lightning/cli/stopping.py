"""Runs that the cluster stops, to go on later."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import override

from itm_lightning.cli.processes import is_first
from itm_lightning.cli.slurm import SlurmJob
from itm_lightning.resume import LastCheckpoint

STOPPED = 128 + signal.SIGTERM  # what a shell says of a process that SIGTERM ended


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within it, SIGTERM and in a SLURM job SIGUSR1 raise SIGTERMException.

    They are caught for as long as the command runs: before, between and after Lightning's loops,
    too. While training, :class:`StopAtStep` waits for the end of a step instead.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be handled
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
    """A handler of signals; a loader's process, forked from ours, does nothing of its own."""

    process: int

    def __call__(self, *_: Any) -> None:
        if os.getpid() == self.process:
            raise SIGTERMException(STOPPED)


class StopAtStep(Callback):
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
        self.last.stop(SIGTERMException(STOPPED))

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # Lightning's own handler of SIGTERM waits for other processes, wherever these are.
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
                logger.experiment.mark_preempting()  # a sweep hands the run out again


def say_stopped() -> int:
    """Asks SLURM to start the job again; the status to exit with."""
    if not is_first():
        return 0  # the first speaks for the run
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # once is enough
    job = SlurmJob.here()
    print("stopped" if job is None else f"stopped; {job.requeue()}", flush=True)
    return STOPPED
