"""A run's folder: what can be read of a run, also after it has ended."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itm_lightning.errors import InputError
from itm_lightning.utils.atomic_files import write_json
from itm_lightning.utils.text_files import read_yaml

_LOCK = "run.lock"
_held: dict[Path, int] = {}  # the locked files of this process's runs, by their descriptors


@dataclass(frozen=True)
class Run:
    """A run, which may be started several times in the same folder.

    Attributes:
        folder: holds ``run.json``, ``config.yaml``, the checkpoints and the results.
        command: the subcommand.
    """

    folder: Path
    command: str

    @property
    def state_file(self) -> Path:
        """The file in which the run is recorded."""
        return self.folder / "run.json"

    @property
    def files_of_a_start(self) -> set[Path]:
        """The files that a run has before it has done anything."""
        return {self.state_file, self.folder / _LOCK}

    @property
    def state(self) -> dict[str, Any]:
        """The ``command``, W&B's ``wandb_id`` and whether it has ``finished``; empty before.

        Raises:
            InputError: ``run.json`` is torn, or was not written by us.
        """
        if not self.state_file.is_file():
            return {}
        try:
            state = json.loads(self.state_file.read_bytes())
        except ValueError:
            state = None
        if not isinstance(state, dict) or "command" not in state:
            if set(self.folder.iterdir()) <= self.files_of_a_start:
                return {}  # nothing is lost
            raise InputError(
                f"{self.state_file} does not say what run this is: give another name with "
                "--run_name, or remove the file to start the run again from its last checkpoint"
            )
        return state

    @property
    def wandb_id(self) -> str | None:
        """The id of W&B's run; None before the first start."""
        return self.state.get("wandb_id")

    @classmethod
    def of_checkpoint(cls, path: Path) -> Run | None:
        """The run in whose folder a checkpoint lies, ``<folder>/checkpoints/best.ckpt``."""
        return cls.of_folder(path.resolve().parent.parent)

    @classmethod
    def of_folder(cls, folder: Path) -> Run | None:
        """The run in a folder; None where ``run.json`` is missing or torn."""
        try:
            command = cls(folder, "").state.get("command")
        except InputError:
            command = None
        return None if command is None else cls(folder, command)

    @property
    def config(self) -> dict[str, Any]:
        """The config with which it was started; empty before.

        Raises:
            InputError: ``config.yaml`` is torn, or was not written by us.
        """
        path = self.folder / "config.yaml"
        if not path.is_file():
            return {}
        config = read_yaml(path)
        if not isinstance(config, dict):
            raise InputError(f"{path} does not hold a run's config: give another --run_name")
        return config

    @property
    def last(self) -> Path | None:
        """The checkpoint to resume from, if the run has written one."""
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if self.command == "fit" and path.is_file() else None

    def begin(self) -> None:
        """Makes the folder, at the run's first start; to be called by the first process only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock()
        if not self.state:
            wandb_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
            state = {"command": self.command, "wandb_id": wandb_id, "finished": False}
            write_json(self.state_file, state)

    def lock(self) -> None:
        """Keeps others from starting the run until this process ends, however it does.

        Raises:
            InputError: another process has started it, and has not ended.
        """
        path = self.folder / _LOCK
        if path in _held:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # systems differ
            owner = os.pread(descriptor, 100, 0).decode(errors="replace")
            os.close(descriptor)
            raise InputError(
                f"{self.folder} is the folder of a run that has not ended ({owner}): wait for it, "
                "or give another --run_name"
            ) from None
        except OSError:  # a file system without locks
            pass
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        _held[path] = descriptor

    def finish(self) -> None:
        """Records that nothing is left to do; to be called by the first process only."""
        write_json(self.state_file, self.state | {"finished": True})


def unlock_runs() -> None:
    """Lets others start the runs that this process has locked."""
    while _held:
        os.close(_held.popitem()[1])


def find_checkpoint(root: Path, which: str) -> Path:
    """The checkpoint that ``--ckpt_path`` names, among the runs under ``root`` or as a file.

    Args:
        root: the folder of runs.
        which: ``last``, the newest of all, from which a fit goes on; ``best``, that of the fit that
            was started last; or the path itself.

    Raises:
        InputError: there is no such checkpoint.
    """
    if which not in ("last", "best"):
        return Path(which)
    found = list(root.glob(f"*/checkpoints/{which}.ckpt"))
    if not found:
        raise InputError(f"--ckpt_path {which}: no run under {root} has checkpoints/{which}.ckpt")
    if which == "last":
        return max(found, key=lambda path: path.stat().st_mtime)
    starts = {path.parent: path.stat().st_mtime for path in root.glob("*/config.yaml")}
    runs = (Run.of_folder(folder) for folder in starts)
    fits = [run.folder for run in runs if run is not None and run.command == "fit"]
    newest = max(fits, key=starts.__getitem__, default=found[0].parent.parent)
    path = newest / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise InputError(
            f"--ckpt_path best: {newest}, the newest fit, has no checkpoints/best.ckpt: give the "
            f"file of another run, such as {found[0]}"
        )
    return path


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
