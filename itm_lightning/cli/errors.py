"""Errors on the command line: said in one line, by one process, and ending all processes."""

from __future__ import annotations

import argparse
import atexit
import difflib
import errno
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import get_loader, set_loader
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from typing_extensions import override

from itm_lightning.cli.early_args import option
from itm_lightning.cli.processes import is_first
from itm_lightning.errors import InputError, printable
from itm_lightning.registry import KINDS, get, list_registered, unknown_part
from itm_lightning.utils.text_files import parse_yaml

BAD_INPUT_STATUS = 2
_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
# What torch says, in errors of no class of their own, where a machine has too little of something.
_TOO_SMALL = {
    re.compile(r"shared memory|shm_open|[Bb]us error"): (
        "/dev/shm is too small for the processes that load data: set data.num_workers: 0, or "
        "enlarge it (docker run --shm-size)"
    ),
    re.compile(r"can't allocate memory|out of memory"): (
        "there is not enough memory: take smaller sizes (data.batch_size, model.dim, …)"
    ),
}
_SECONDS_TO_CLEAN_UP = 20.0  # before a failed process is ended, whatever it waits for
_SECONDS_OF_FIRST = 5.0  # for the first process to print an error that all have, and end the others

# What Lightning and torch say in the midst of a fit, in errors of no class of their own.
_OF_SETTINGS = re.compile(
    r"Early stopping conditioned|`val_check_interval`|Tried to step \d+ times"
)

# The keys of YAML that take a part are named as the kinds of the registry.
_KEY = re.compile(r'Parser key "(?P<key>[\w.]+)":\s*(?P<rest>.*)', re.DOTALL)
_UNKNOWN_OPTION = re.compile(r"Option '(?P<name>[^']+)' is not accepted")
# Where a value may be of several types, the parser says why it is of none, with lines around it.
_OF_EACH_TYPE = re.compile(r"Errors:\s*\n(?P<errors>.*?)(\n\s*Given value|\Z)", re.DOTALL)
_CLASS = re.compile(r"<class '([\w.]+)'>")
_NUMBER = re.compile(r"Expected a <class '(int|float)'>")
_CLASS_PATH = re.compile(r"class_path='(?:\w+\.)*(\w+)'")
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\S+)")


def _checked_values(text: str) -> Any:
    parse_yaml(text, text)
    return _values(text)


_values = get_loader("yaml")
set_loader("yaml", _checked_values, (yaml.YAMLError, InputError))


class OneLineParser(LightningArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of 60 options."""

    _args: Sequence[str] = ()

    @override
    def parse_args(self, args: Any = None, *others: Any, **kwargs: Any) -> Any:
        self._args = args or ()
        return super().parse_args(args, *others, **kwargs)

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_line(message, self._args))


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


def one_line(message: str, args: Sequence[str] = ()) -> str:
    """The parser's message in one line.

    For an unknown class it lists the classes there are, and for an unknown argument of a class the
    arguments that it has.

    Args:
        message: the parser's.
        args: of the command line.
    """
    found = _KEY.search(message)
    if found is None:
        return " ".join(message.split())
    key, rest = found["key"], found["rest"]
    kind = key.rpartition(".")[2]
    unknown = _UNKNOWN_CLASS.search(rest)
    if unknown and kind in KINDS:
        rest = unknown_part(kind, unknown["name"])
    elif surplus := _UNKNOWN_OPTION.search(rest):
        rest = _unknown_argument(surplus["name"], option(args, key), kind) or rest
    elif unknown and not _NUMBER.search(rest):
        rest = f"there is no class {unknown['name']}: give its name, or its path my_file.MyClass"
    if each := _OF_EACH_TYPE.search(rest):
        said = (line.strip(" -") for line in each["errors"].splitlines())
        of_use = [line for line in said if line and "NoneType" not in line]
        if _NUMBER.search(rest):  # of which the other type is a tensor's class
            of_use = [line for line in of_use if "dot import path" not in line]
        rest = "; ".join(dict.fromkeys(of_use)) or rest
    rest = " ".join(_CLASS.sub(r"\1", rest).split())
    return f"{key}: {rest}"


def _unknown_argument(name: str, part: Any, kind: str) -> str | None:
    """What to say of an argument that a class does not have; None where the class is not known.

    Args:
        name: of the argument.
        part: what flags or configs give as the part: a class's name, or a mapping with it.
        kind: of part, as in the registry.
    """
    part = parse_yaml(part, part) if isinstance(part, str) else part
    path = part.get("class_path") if isinstance(part, dict) else part
    known = str(path).rpartition(".")[2]
    if kind in KINDS:
        cls = get(kind, known) if known in list_registered(kind) else None
    else:
        cls = getattr(torch.optim, known, None) or getattr(torch.optim.lr_scheduler, known, None)
    if cls is None:
        return None
    taken = list(inspect.signature(cls).parameters)
    close = difflib.get_close_matches(name, taken, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"{known} has no {name!r}{guess}; it takes {', '.join(taken) or 'nothing'}"


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
        cause = next((e for e in _chain(error) if isinstance(e, InputError)), None)
        of_types = _OF_EACH_TYPE.search(str(error))
        if cause is None and of_types is not None:  # a callback of Lightning's refuses them
            first = of_types["errors"].strip(" -\n").splitlines()[0]
            name = _CLASS_PATH.search(str(error))
            cause = InputError(f"{name[1] if name else 'a part'}: {first}")
        if cause is None:
            raise
        raise cause from None


def input_error(error: BaseException) -> Exception | None:
    """The error that is to be said in one line, if it is one that the user can mend.

    Beside wrong input these are files that cannot be written or read, and too little memory.
    """
    chain = list(_chain(error))
    full = next((e for e in chain if isinstance(e, OSError) and e.errno in _FULL), None)
    if full is not None:
        name = f"{full.filename}: " if full.filename else ""
        return InputError(
            f"{name}{full.strerror}: make room and start again; what was saved before is whole"
        )
    if isinstance(error, InputError | MisconfigurationException):
        return error
    if isinstance(error, OSError) and error.filename is not None:
        return InputError(f"{error.filename}: {error.strerror}")
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return InputError("a path among the arguments has a NUL character: leave it out")
    wandb = sys.modules.get("wandb")  # slow to import, and here only if it is used
    if wandb is not None and isinstance(error, wandb.errors.Error):
        without = "WANDB_MODE=offline and --trainer.logger false do without it"
        return InputError(f"W&B: {error} ({without})")
    if isinstance(error, RuntimeError | ValueError) and _OF_SETTINGS.match(str(error).strip()):
        return InputError(one_line(str(error)))
    what = "out of memory" if isinstance(error, MemoryError) else str(error)
    for said, mend in _TOO_SMALL.items():
        if isinstance(error, MemoryError | RuntimeError) and said.search(what):
            return InputError(f"{mend} ({one_line(what.splitlines()[-1])[:200]})")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    met: set[int] = set()  # one that was raised again may have led to itself
    while error is not None and id(error) not in met:
        met.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def print_bad_input(error: Exception) -> None:
    """Prints the error in one line; once, where every process has it.

    A process that is not the first waits, so that the first can print it and end all.
    """
    if not is_first():
        time.sleep(_SECONDS_OF_FIRST)
    print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)


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
        if input_error(exception) is None:
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
