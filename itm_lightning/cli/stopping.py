"""Errors of one process among several: they end all, and are seen.

A run that goes on from its own checkpoint.

Runs that the cluster stops, to go on later.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from typing_extensions import override

from itm_lightning.cli.loggers import MetricsCSV
from itm_lightning.cli.processes import SlurmJob, is_first
from itm_lightning.errors import InputError
from itm_lightning.resume import LastCheckpoint

BAD_INPUT = InputError, MisconfigurationException
_PATIENCE = 20.0  # seconds for a failed process to end, whatever its clean-up waits for
_FIRST_SPEAKS = 5.0  # seconds for the first process to say the same, and end the others


class FailureCallback(Callback):
    """Ends a process that failed, and those that Lightning started beside it.

    The others may be waiting for it within a collective, and it for them while it cleans up.
    torchrun, and srun with ``--kill-on-bad-exit``, end the others when one has ended; Lightning
    ends only the process that started the others, not these.
    """

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
            atexit.register(_end, launcher.procs)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if trainer.world_size == 1 or isinstance(exception, SIGTERMException):
            return
        if not isinstance(exception, BAD_INPUT):
            what = f"{type(exception).__name__}: {' '.join(str(exception).split())}"
            print(f"\nrank {trainer.global_rank} failed: {what}", file=sys.stderr, flush=True)
        timer = threading.Timer(_PATIENCE, _give_up, [exception])
        timer.daemon = True
        timer.start()


def say_bad_input(error: Exception) -> None:
    """Prints the error in one line, once where every process has it.

    A process that is not the first gives the first the time to say it, and to end all.
    """
    if not is_first():
        time.sleep(_FIRST_SPEAKS)
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


def _give_up(exception: BaseException) -> None:
    traceback.print_exception(exception)
    sys.stderr.flush()
    os._exit(1)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Kills those that do not end by themselves soon."""
    deadline = time.monotonic() + _FIRST_SPEAKS / 2
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)


class ResumeCallback(Callback):
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


STOPPED = 128 + signal.SIGTERM  # what a shell says of a process that SIGTERM ended


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within it, SIGTERM and in a SLURM job SIGUSR1 raise SIGTERMException.

    They are caught for as long as the command runs: before, between and after Lightning's loops,
    too. While training, :class:`PreemptionCallback` waits for the end of a step instead.
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
