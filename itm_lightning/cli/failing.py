"""Errors of one process among several: they end all, and are seen."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from typing_extensions import override

from itm_lightning.cli.processes import is_first
from itm_lightning.errors import InputError

BAD_INPUT = InputError, MisconfigurationException
_PATIENCE = 20.0  # seconds for a failed process to end, whatever its clean-up waits for
_FIRST_SPEAKS = 5.0  # seconds for the first process to say the same, and end the others


class EndTogether(Callback):
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
