"""The folder that an extraction writes into, and how many of its rows are finished."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from torch import Tensor

from itm_lightning.data import Record
from itm_lightning.data.sources.precomputed.files import (
    MANIFEST,
    PROGRESS,
    SplitFiles,
    read_json,
    to_line,
)
from itm_lightning.errors import InputError
from itm_lightning.utils.atomic_files import is_unfinished, sync_folder, write_json, write_text

_DONE = "rows_done"
_SECONDS_BETWEEN_MARKS = 1.0  # a mark takes 25 ms, in which a GPU computes a few batches


class Folder:
    """A folder of precomputed regions, while it is written.

    The process may be stopped at any moment: rows are on disk before they are marked as done, text
    files are replaced atomically, and the manifest appears once everything else is there.

    Args:
        root: the folder; it need not exist.

    Raises:
        InputError: the folder holds files that ``lightning extract`` did not write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.complete = (root / MANIFEST).exists()
        self._manifest: dict[str, Any] = {}
        self._done: dict[str, int] = {}
        self._next_mark = 0.0
        if root.is_file():
            raise InputError(f"--output {root} is a file; give a folder")
        ours = self.complete or (root / PROGRESS).exists()
        if root.exists() and not ours and any(not is_unfinished(p) for p in root.iterdir()):
            raise InputError(f"--output {root} is not empty, and not by `lightning extract`")

    def begin(self, manifest: dict[str, Any]) -> None:
        """Begins or continues what ``manifest`` describes; see :mod:`itm_lightning.extract.plan`.

        Raises:
            InputError: the folder was begun with another manifest, or its disk is too small.
        """
        path = self.root / (MANIFEST if self.complete else PROGRESS)
        if path.exists():
            self._manifest = read_json(path)
            self._done = self._manifest.pop(_DONE, _all_rows(manifest))
            _check_same(self._manifest, manifest, self.root)
        else:
            self.root.mkdir(parents=True, exist_ok=True)
            _check_space(self.root, manifest)
            self._manifest, self._done = manifest, dict.fromkeys(manifest["splits"], 0)
            self._mark()

    def done(self, split: str) -> int:
        """How many rows of the split are finished."""
        return self._done[split]

    def write_texts(self, split: str, records: Sequence[Record]) -> None:
        """Writes the split's texts, ids and records."""
        files = SplitFiles(self.root, split)
        texts = (" ".join(text.split()) for r in records for text in r.texts)
        write_text(files.texts, _lines(texts))
        write_text(files.ids, _lines(str(record.image_id) for record in records))
        write_text(files.records, _lines(map(to_line, records)))

    def open(self, split: str) -> np.memmap:
        """The split's regions ``(N, L, D)``, to write into; a new file where no row is finished."""
        path, settings = SplitFiles(self.root, split).regions, self._manifest
        if self._done[split]:
            return open_memmap(path, mode="r+")
        shape = tuple(settings["splits"][split]["shape"])
        rows = open_memmap(path, mode="w+", dtype=settings["dtype"], shape=shape)
        sync_folder(self.root)
        return rows

    def write_rows(self, split: str, rows: np.memmap, tokens: Tensor) -> None:
        """Writes the next rows of a split, and marks them as done at most once a second."""
        start, end = self._done[split], self._done[split] + len(tokens)
        rows[start:end] = tokens.numpy()
        self._done[split] = end
        if end == len(rows) or time.monotonic() >= self._next_mark:
            rows.flush()
            self._mark()

    def finish(self) -> None:
        """Replaces the progress by the manifest: the folder is complete."""
        write_json(self.root / PROGRESS, self._manifest)
        os.replace(self.root / PROGRESS, self.root / MANIFEST)
        sync_folder(self.root)

    def _mark(self) -> None:
        write_json(self.root / PROGRESS, {**self._manifest, _DONE: self._done})
        self._next_mark = time.monotonic() + _SECONDS_BETWEEN_MARKS


def _all_rows(manifest: Mapping[str, Any]) -> dict[str, int]:
    return {name: split["shape"][0] for name, split in manifest["splits"].items()}


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def _check_space(root: Path, manifest: Mapping[str, Any]) -> None:
    """Raises InputError where the disk is too small: writing to a map would crash the process."""
    numbers = sum(math.prod(split["shape"]) for split in manifest["splits"].values())
    needed, free = numbers * np.dtype(manifest["dtype"]).itemsize, shutil.disk_usage(root).free
    if needed > free:
        raise InputError(
            f"--output {root} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        )


def _check_same(begun: Mapping[str, Any], wanted: Mapping[str, Any], root: Path) -> None:
    """Raises InputError where the folder was begun with another manifest."""
    comparable = {
        "version": lambda manifest: manifest["version"],
        "image encoder": lambda manifest: manifest["encoder"]["fingerprint"],
        "dtype": lambda manifest: manifest["dtype"],
        "batch_size": lambda manifest: manifest["batch_size"],
        "list of class names": lambda manifest: manifest["class_names"],
        "splits": lambda manifest: list(manifest["splits"]),
        "data": lambda manifest: manifest["splits"],
    }
    for name, of in comparable.items():
        if of(begun) != of(wanted):
            raise InputError(
                f"--output {root} was begun with another {name}; give the same again, or another "
                "folder"
            )
