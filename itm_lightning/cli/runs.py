"""Run folders: by what name a command finds the run that it starts or resumes."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from torch.distributed import TCPStore

from itm_lightning.cli.early_args import option
from itm_lightning.cli.loggers import WANDB_VARIABLES
from itm_lightning.cli.processes import SlurmJob, is_first
from itm_lightning.errors import InputError
from itm_lightning.resume.run import Run, unlock_runs

DEFAULT_ROOT = "runs"
# Processes that a run's first process starts inherit its folder, and what W&B is told.
_RUN_FOLDER = "ITM_LIGHTNING_RUN_FOLDER"
_SAFE_PATH = "PYTHONSAFEPATH"
_OF_ONE_RUN = (_RUN_FOLDER, _SAFE_PATH, *WANDB_VARIABLES)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@contextmanager
def environment_of_one_run() -> Iterator[None]:
    """Within it, variables of the environment may describe the run; afterwards they are reset."""
    before = {name: os.environ.get(name) for name in _OF_ONE_RUN}
    os.environ[_SAFE_PATH] = "1"  # no process started by this one imports from the current folder
    try:
        yield
    finally:
        unlock_runs()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def joined_fit(given: Sequence[str], command: str | None, checkpoint: str | None) -> Run | None:
    """The fit whose run in W&B is also that of a test of its checkpoint.

    Args:
        given: arguments of the command line, without those that the checkpoint brings.
        command: the subcommand.
        checkpoint: its file.

    Returns:
        ``None`` where the run is one of its own: the command is not a test, the checkpoint lies in
        no fit's folder or its fit was not in W&B, or the user gave an id or a group, or further
        models.
    """
    fit = Run.of_checkpoint(Path(checkpoint)) if checkpoint else None
    if command not in ("validate", "test") or fit is None or fit.command != "fit":
        return None
    own = [f"trainer.logger.init_args.{name}" for name in ("id", "version", "group")]
    has_own = any(option(given, name) for name in (*own, "ensemble.checkpoints"))
    has_own |= any(name in os.environ for name in ("WANDB_RUN_ID", "WANDB_RUN_GROUP"))
    in_wandb = "WandbLogger" in str(fit.config.get("trainer", {}).get("logger"))
    return fit if in_wandb and not has_own else None


def begin_run(run: Run, joined: Run | None = None) -> None:
    """Makes the run's folder known to the processes that this one starts; by the first only.

    Args:
        run: the command's.
        joined: the run whose id in W&B it has.
    """
    if joined is not None and joined.wandb_id:
        os.environ["WANDB_RUN_ID"] = joined.wandb_id
    run.begin()
    os.environ[_RUN_FOLDER] = str(run.folder)


def known_run(args: Sequence[str], command: str) -> Run | None:
    """The run that is named by the arguments, or by what started this process.

    Args:
        args: of the command line.
        command: the subcommand.

    Raises:
        InputError: the name cannot be a folder's name.
    """
    name = option(args, "run_name")
    name = checked_name(name) if name else name_of_start(command)
    root = option(args, "trainer.default_root_dir") or DEFAULT_ROOT
    return Run(Path(root) / name, command) if name else None


def new_run(root: Path, command: str) -> Run:
    """A run with a new folder, ``<root>/<date>-<time>-<command>[-<n>]``."""
    inherited = os.environ.get(_RUN_FOLDER)
    if inherited and not is_first():
        return Run(Path(inherited), command)
    stem, number = _dated(command), 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return Run(folder, command)


def drop_empty_run_folder() -> None:
    """Removes the folder of a run that ended before it did anything."""
    folder = Path(os.environ.get(_RUN_FOLDER, ""))
    if not is_first() or _RUN_FOLDER not in os.environ:
        return
    with suppress(OSError):
        files = Run(folder, "").files_of_a_start
        if set(folder.iterdir()) <= files:
            for path in files:
                path.unlink(missing_ok=True)
            folder.rmdir()


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
    """A name from what started the process: W&B's agent, else SLURM, else torchrun.

    Args:
        command: the subcommand; each has a run of its own.

    Returns:
        None where nothing distinguishes this start from others.
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
        return _name_of_first(f"{_dated(command)}-{torchrun[:4]}")
    return f"torchrun-{re.sub(r'[^A-Za-z0-9.-]', '_', torchrun)}-{command}"


def _dated(command: str) -> str:
    """A name from the current time."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{command}"


def _name_of_first(name: str) -> str:
    """The name of the first torchrun process to call this; also after torchrun restarts them."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
    agreed: bytes = store.compare_set("itm_lightning/run", "", name)
    return agreed.decode()


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
