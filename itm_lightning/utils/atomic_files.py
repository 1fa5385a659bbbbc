"""Files that are complete or absent, whenever the process or the machine stops."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_UNFINISHED = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into, which replaces ``path`` when the block ends without an exception.

    Until then it is beside it as ``<name>.tmp``.
    """
    new = path.with_name(path.name + _UNFINISHED)
    if new.is_symlink():  # of a run that somebody else sent: it would be written through
        new.unlink()
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        new.unlink(missing_ok=True)  # on a full disk it takes what little room there is
        # torch hides an error of the disk behind one of its own
        of_disk = error if isinstance(error, OSError) else error.__context__
        if isinstance(of_disk, OSError) and of_disk.filename is None:
            of_disk.filename = str(path)
        raise
    os.replace(new, path)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces the file by one with ``text``."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file by one with ``value`` as JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def is_unfinished(path: Path) -> bool:
    """Whether the file was left incomplete by a process that was killed."""
    return path.suffix == _UNFINISHED


def remove_unfinished(folder: Path) -> None:
    """Removes the incomplete files that killed processes have left in a folder."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed or removed in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
