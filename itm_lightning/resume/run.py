"""A run's folder: what can be read of a run, also after it has ended."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from itm_lightning.errors import InputError
from itm_lightning.utils.atomic_files import write_json


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
    def state(self) -> dict[str, Any]:
        """The ``command``, W&B's ``wandb_id`` and whether it has ``finished``; empty before."""
        return dict(json.loads(self.state_file.read_text())) if self.state_file.is_file() else {}

    @property
    def wandb_id(self) -> str | None:
        """The id of W&B's run; None before the first start."""
        return self.state.get("wandb_id")

    @classmethod
    def of_checkpoint(cls, path: Path) -> Run | None:
        """The run in whose folder a checkpoint lies, ``<folder>/checkpoints/best.ckpt``."""
        folder = path.resolve().parent.parent
        command = cls(folder, "").state.get("command")
        return None if command is None else cls(folder, command)

    @property
    def config(self) -> dict[str, Any]:
        """The config with which it was started; empty before."""
        path = self.folder / "config.yaml"
        return dict(yaml.safe_load(path.read_text())) if path.is_file() else {}

    @property
    def last(self) -> Path | None:
        """The checkpoint to resume from, if the run has written one."""
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if self.command == "fit" and path.is_file() else None

    def begin(self) -> None:
        """Makes the folder, at the run's first start; to be called by the first process only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.state:
            wandb_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
            state = {"command": self.command, "wandb_id": wandb_id, "finished": False}
            write_json(self.state_file, state)

    def finish(self) -> None:
        """Records that nothing is left to do; to be called by the first process only."""
        write_json(self.state_file, self.state | {"finished": True})


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


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
