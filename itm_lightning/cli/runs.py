"""Run folders: what a run is called, where it keeps its files, how to find its checkpoint."""

from __future__ import annotations

import json
import os
import re
import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from itm_lightning.cli.early_args import option
from itm_lightning.cli.processes import SlurmJob, is_first
from itm_lightning.errors import InputError
from itm_lightning.utils.atomic_files import write_json

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def checked_name(name: str) -> str:
    """The name given as ``--run_name``.

    Raises:
        InputError: it cannot be a folder's name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--run_name {name!r} names a folder: letters, digits, '.', '_' and '-' only"
        )
    return name


def name_of_start(command: str) -> str | None:
    """A name by what started the process: W&B's agent, else SLURM, else torchrun.

    Args:
        command: the subcommand; each has a run of its own.

    Returns:
        None where nothing tells this start from others.
    """
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if sweep and run:
        return f"sweep-{sweep}-{run}-{command}"
    job = SlurmJob.here()
    if job is not None:
        return f"slurm-{job.id}-{command}"
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID")
    if torchrun is None:
        return None
    if torchrun == "none" or _is_uuid(torchrun):  # nobody gave it an id
        return _first_said(f"{dated(command)}-{torchrun[:4]}")
    return f"torchrun-{re.sub(r'[^A-Za-z0-9.-]', '_', torchrun)}-{command}"


def dated(command: str) -> str:
    """A name by the time."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{command}"


def _first_said(name: str) -> str:
    """What the first of torchrun's processes to ask said; also after torchrun restarts them."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
    said: bytes = store.compare_set("itm_lightning/run", "", name)
    return said.decode()


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


DEFAULT_ROOT = "runs"
# Processes that a run's first process starts inherit its folder.
_RUN_FOLDER = "ITM_LIGHTNING_RUN_FOLDER"
_STATE = "run.json"


@dataclass(frozen=True)
class Run:
    """A run, which may be started several times; ``run.json`` in its folder knows it again.

    Attributes:
        folder: the same at each start.
        command: the subcommand.
    """

    folder: Path
    command: str

    @property
    def last(self) -> Path | None:
        """The checkpoint to go on from, if the run has come so far."""
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if self.command == "fit" and path.is_file() else None

    @property
    def state(self) -> dict[str, Any]:
        """What is known of it: the command, W&B's id, whether it has finished."""
        path = self.folder / _STATE
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    def begin(self) -> None:
        """Makes the folder, at the run's first start; for the first process alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.state:
            wandb_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
            state = {"command": self.command, "wandb_id": wandb_id, "finished": False}
            write_json(self.folder / _STATE, state)
        os.environ[_RUN_FOLDER] = str(self.folder)

    def finish(self) -> None:
        """Notes that nothing is left to do; for the first process alone."""
        write_json(self.folder / _STATE, self.state | {"finished": True})


@contextmanager
def environment_of_one_run() -> Iterator[None]:
    """Within it, a run tells the processes that it starts where its folder is."""
    before = os.environ.get(_RUN_FOLDER)
    try:
        yield
    finally:
        os.environ.pop(_RUN_FOLDER, None)
        if before is not None:
            os.environ[_RUN_FOLDER] = before


def known_run(args: Sequence[str], command: str) -> Run | None:
    """The run that the arguments, or what started this process, give a name.

    Args:
        args: the command line's.
        command: the subcommand.

    Raises:
        InputError: the name is none for a folder.
    """
    name = option(args, "run_name")
    name = checked_name(name) if name else name_of_start(command)
    root = option(args, "trainer.default_root_dir") or DEFAULT_ROOT
    return Run(Path(root) / name, command) if name else None


def new_run(root: Path, command: str) -> Run:
    """A run with a folder of its own, ``<root>/<date>-<time>-<command>[-<n>]``."""
    inherited = os.environ.get(_RUN_FOLDER)
    if inherited and not is_first():
        return Run(Path(inherited), command)
    stem, number = dated(command), 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return Run(folder, command)


def find_checkpoint(root: Path, which: str) -> Path:
    """The checkpoint ``last`` or ``best`` of the newest run under ``root``, or the path itself.

    Raises:
        InputError: no run under ``root`` has such a checkpoint.
    """
    if which not in ("last", "best"):
        return Path(which)
    found = list(root.glob(f"*/checkpoints/{which}.ckpt"))
    if not found:
        raise InputError(f"--ckpt_path {which}: no run under {root} has checkpoints/{which}.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime)


def drop_empty_run_folder() -> None:
    """Removes this run's folder if the run ended before it did anything."""
    folder = Path(os.environ.get(_RUN_FOLDER, ""))
    if not is_first() or _RUN_FOLDER not in os.environ:
        return
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {_STATE}:
            (folder / _STATE).unlink(missing_ok=True)
            folder.rmdir()
