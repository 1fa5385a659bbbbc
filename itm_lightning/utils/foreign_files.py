"""Files that a dataset names: regular ones only, and in its folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.text_files import read_utf8


def regular_file(path: Path, what: str) -> Path:
    """The path, if a regular file is there: opening a pipe or a device may wait for ever.

    Args:
        path: of the file.
        what: it is, for the message: ``"photo"``.

    Raises:
        InputError: there is something else, or no file can have such a name.
        FileNotFoundError: there is nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: of a NUL, or half a surrogate pair
        raise InputError(f"{what} {path} cannot be read: {one_line(error)}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"{what} {path} is {kind}: name a file")
    return path


def inside(path: Path, folders: Sequence[Path], what: str, mend: str) -> Path:
    """The path of a file that a dataset names, if it lies in one of the folders, links followed.

    Args:
        path: of the file.
        folders: the dataset's.
        what: it is, for the message: ``"photo"``.
        mend: how to allow it, for the message.

    Raises:
        InputError: the name leads out of them: by ``..``, as an absolute path or by a link.
    """
    try:
        parent, name = os.path.split(path)
        real, roots = _real(parent) + name, tuple(map(_real, folders))
        if name == ".." or os.path.islink(path):
            real = os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{what} {path} cannot be read: {one_line(error)}") from error
    if not os.path.join(real, "").startswith(roots):
        raise InputError(f"{what} {path} lies outside of {folders[0]}, in {real}: {mend}")
    return path


def _real(folder: Path | str) -> str:
    return _real_of(os.path.join(os.getcwd(), folder))


@lru_cache(1000)  # the folders of thousands of photos are few
def _real_of(folder: str) -> str:
    return os.path.join(os.path.realpath(folder), "")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark.

    Raises:
        InputError: it is no regular file, cannot be read, or is in another encoding.
        FileNotFoundError: there is nothing.
    """
    return read_utf8(regular_file(path, "file"))
