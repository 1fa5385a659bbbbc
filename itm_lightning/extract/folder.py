"""The folder that an extraction writes into, and how many of its rows are finished."""

from __future__ import annotations

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
from itm_lightning.data.source import SPLITS
from itm_lightning.data.sources.precomputed.files import (
    MANIFEST,
    PROGRESS,
    SplitFiles,
    read_json,
    to_line,
)
from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.atomic_files import is_unfinished, sync_folder, write_json, write_text

_DONE = "rows_done"
_DATA = {"photos": "content of the photos", "data": "list of photos and captions"}
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
        self.complete = False
        self._manifest: dict[str, Any] = {}
        self._done: dict[str, int] = {}
        self._next_mark = 0.0
        if root.is_file():
            raise InputError(f"--output {root} is a file; give a folder")
        ours = (root / MANIFEST).exists() or (root / PROGRESS).exists()
        if root.exists() and not ours and any(not is_unfinished(p) for p in root.iterdir()):
            raise InputError(f"--output {root} is not empty, and not by `lightning extract`")

    def begin(self, manifest: dict[str, Any]) -> None:
        """Begins or continues what ``manifest`` describes; see :mod:`itm_lightning.extract.plan`.

        A folder may have other splits already, made in the same way; these stay.

        Raises:
            InputError: the folder was begun with another manifest, its manifest or progress cannot
                be read, or its disk is too small.
        """
        half_done = (self.root / PROGRESS).exists()
        path = self.root / (PROGRESS if half_done else MANIFEST)
        begun = _read(path) if path.exists() else {**manifest, _DONE: {}, "splits": {}}
        self._done = begun.pop(_DONE)
        _check_same(begun, manifest, self.root)
        unfinished = [name for name, done in self._done.items() if done < _rows(begun, name)]
        if left := [name for name in unfinished if name not in manifest["splits"]]:
            raise InputError(
                f"--output {self.root} is half done: finish it with --splits {','.join(unfinished)}"
                f" (there is no {left[0]} in this call)"
            )
        new = [name for name in manifest["splits"] if name not in self._done]
        self.complete = not half_done and not new
        splits = {**begun["splits"], **manifest["splits"]}
        self._manifest = {**begun, "splits": {s: splits[s] for s in SPLITS if s in splits}}
        self._done |= dict.fromkeys(new, 0)
        if new:
            self.root.mkdir(parents=True, exist_ok=True)
            self._mark()
        if not self.complete:
            self._reserve(begun_here=not half_done)

    def _reserve(self, begun_here: bool) -> None:
        """Makes the files of all splits that have no row yet, with room on the disk for all rows.

        Writing to the map of a file for which the disk has no room would crash the process.

        Args:
            begun_here: whether to leave no trace where there is no room.
        """
        paths = []
        said = None
        try:
            for split in (name for name, done in self._done.items() if done == 0):
                path = SplitFiles(self.root, split).regions
                paths.append(path)
                shape = tuple(self._manifest["splits"][split]["shape"])
                path.unlink(missing_ok=True)  # a link would be written through
                open_memmap(path, mode="w+", dtype=self._manifest["dtype"], shape=shape)
                with path.open("r+b") as file:  # its pages, of which the file has none yet
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            sync_folder(self.root)
        except OSError as error:
            for path in paths:
                path.unlink(missing_ok=True)
            if begun_here:
                (self.root / PROGRESS).unlink()
            said = one_line(error)
        if said is not None:  # here, because the command line tells of full disks it finds within
            free = shutil.disk_usage(self.root).free
            raise InputError(
                f"--output {self.root}: there is no room for {path.name} ({said}); "
                f"{free / 1e9:.1f} GB are free"
            )

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
        """The split's regions ``(N, L, D)``, to write into.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = SplitFiles(self.root, split).regions
        try:
            return open_memmap(path, mode="r+")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be continued ({one_line(error)}): remove {self.root}"
            ) from error

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


def _read(path: Path) -> dict[str, Any]:
    """The manifest or the progress of a folder, with the number of rows that are done."""
    begun = read_json(path)
    try:
        sizes = {name: _rows(begun, name) for name in begun["splits"]}
        done = begun.setdefault(_DONE, sizes)
        if done.keys() != sizes.keys() or any(not 0 <= done[n] <= sizes[n] for n in sizes):
            raise ValueError(f"{_DONE} {done}")
        begun["encoder"]["fingerprint"], begun["batch_size"], begun["class_names"], begun["dtype"]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is not as `lightning extract` wrote it ({one_line(error)}): remove the folder"
        ) from error
    return begun


def _rows(manifest: Mapping[str, Any], split: str) -> int:
    return manifest["splits"][split]["shape"][0]


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def _check_same(begun: Mapping[str, Any], wanted: Mapping[str, Any], root: Path) -> None:
    """Raises InputError where the folder was begun with another manifest."""
    comparable = {
        "version": lambda manifest: manifest["version"],
        "image encoder": lambda manifest: manifest["encoder"]["fingerprint"],
        "dtype": lambda manifest: manifest["dtype"],
        "batch_size": lambda manifest: manifest["batch_size"],
        "list of class names": lambda manifest: manifest["class_names"],
    }
    other = next((name for name, of in comparable.items() if of(begun) != of(wanted)), None)
    common = [name for name in wanted["splits"] if name in begun["splits"]]
    for split in common if other is None else ():
        before, now = begun["splits"][split], wanted["splits"][split]
        # a folder of an older version does not say which photos it was made of
        changed = [key for key in now if before.get(key, now[key]) != now[key]]
        if changed:
            other = f"{_DATA.get(changed[0], 'data')} of {split}"
    if other is not None:
        raise InputError(
            f"--output {root} was begun with another {other}; give the same again, or another "
            "folder"
        )
