"""Errors on the command line: said in one line, by one process, and ending all processes."""

from __future__ import annotations

import argparse
import atexit
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from typing_extensions import override

from itm_lightning.cli.processes import is_first
from itm_lightning.errors import InputError
from itm_lightning.registry import KINDS, unknown_part

BAD_INPUT = InputError, MisconfigurationException
BAD_INPUT_STATUS = 2
_SECONDS_TO_CLEAN_UP = 20.0  # before a failed process is ended, whatever it waits for
_SECONDS_OF_FIRST = 5.0  # for the first process to print an error that all have, and end the others

# The keys of YAML that take a part are named as the kinds of the registry.
_KEY = re.compile(r'Parser key "(?P<key>[\w.]+)":\s*(?P<rest>.*)', re.DOTALL)
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\S+)")


class OneLineParser(LightningArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of 60 options."""

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_line(message))


class CommandParser(argparse.ArgumentParser):
    """Of a command that is not Lightning's: its errors are one line, and flags are not shortened.

    Args:
        command: the subcommand.
        description: what ``--help`` says, as it is laid out.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"lightning {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    @override
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def one_line(message: str) -> str:
    """The parser's message in one line; for an unknown class it lists the classes there are."""
    found = _KEY.search(message)
    if found is None:
        return " ".join(message.split())
    key, rest = found["key"], found["rest"]
    kind = key.rpartition(".")[2]
    unknown = _UNKNOWN_CLASS.search(rest)
    if unknown and kind in KINDS:
        rest = unknown_part(kind, unknown["name"])
    return f"{key}: {' '.join(rest.split())}"


@contextmanager
def refused_arguments() -> Iterator[None]:
    """Within it, the parser makes the parts.

    Where a part may be left out, the parser hides what its constructor raises behind a
    ``ValueError`` that tells of all types that the value might have had.

    Raises:
        InputError: a part refuses its arguments.
    """
    try:
        yield
    except ValueError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None


def print_bad_input(error: Exception) -> None:
    """Prints the error in one line; once, where every process has it.

    A process that is not the first waits, so that the first can print it and end all.
    """
    if not is_first():
        time.sleep(_SECONDS_OF_FIRST)
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


class FailureCallback(Callback):
    """Ends a process that failed, and the processes that Lightning started beside it.

    They may be waiting for it within a collective, and it for them while it cleans up. torchrun,
    and srun with ``--kill-on-bad-exit``, end the others when one has ended; Lightning ends only
    the process that started the others.
    """

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if started := getattr(trainer.strategy.launcher, "procs", []):
            atexit.register(_end, started)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if trainer.world_size == 1 or isinstance(exception, SIGTERMException):
            return
        if not isinstance(exception, BAD_INPUT):
            what = f"{type(exception).__name__}: {' '.join(str(exception).split())}"
            print(f"\nrank {trainer.global_rank} failed: {what}", file=sys.stderr, flush=True)
        timer = threading.Timer(_SECONDS_TO_CLEAN_UP, _exit, [exception])
        timer.daemon = True
        timer.start()


def _exit(exception: BaseException) -> None:
    traceback.print_exception(exception)
    sys.stderr.flush()
    os._exit(1)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Kills the processes that do not end by themselves soon."""
    deadline = time.monotonic() + _SECONDS_OF_FIRST / 2
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
