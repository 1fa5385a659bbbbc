"""Run folders: where a run keeps its files, and how to find a checkpoint again."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from itm_lightning.errors import InputError

# Processes that a run's first process starts inherit its folder.
_RUN_FOLDER = "ITM_LIGHTNING_RUN_FOLDER"


def new_run_folder(root: Path, command: str) -> Path:
    """Makes a folder of its own for this run, ``<root>/<date>-<time>-<command>[-<n>]``."""
    inherited = os.environ.get(_RUN_FOLDER)
    if inherited and "LOCAL_RANK" in os.environ:
        return Path(inherited)
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{command}"
    number = 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        os.environ[_RUN_FOLDER] = str(folder)
        return folder


def find_checkpoint(root: Path, which: str) -> Path:
    """The checkpoint ``last`` or ``best`` of the newest run under ``root``, or the path itself.

    Raises:
        InputError: there is no such checkpoint.
    """
    if which not in ("last", "best"):
        if not Path(which).is_file():
            raise InputError(f"--ckpt_path {which}: there is no such file")
        return Path(which)
    found = list(root.glob(f"*/checkpoints/{which}.ckpt"))
    if not found:
        raise InputError(f"--ckpt_path {which}: no run under {root} has checkpoints/{which}.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime)


def drop_empty_run_folder() -> None:
    """Removes this run's folder if the run ended before it wrote anything."""
    with suppress(KeyError, OSError):  # no folder yet, or it holds something
        Path(os.environ[_RUN_FOLDER]).rmdir()
