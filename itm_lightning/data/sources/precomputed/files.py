"""The files of a folder of precomputed regions, and its records as lines of JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itm_lightning.data.source import Box, Record
from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.foreign_files import read_text

MANIFEST = "manifest.json"
"""What the folder holds and what made it; written last."""

PROGRESS = "progress.json"
"""The manifest of a folder that is not complete."""

VERSION = 2
"""Version of the fields of manifest and records; 1 called a record's texts captions."""


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split.

    Attributes:
        root: the folder.
        prefix: the beginning of their names.
    """

    root: Path
    prefix: str

    @property
    def regions(self) -> Path:
        """``(N, L, D)``, or ``(ΣL, D)`` where offsets give the rows of each image."""
        return self.root / f"{self.prefix}_ims.npy"

    @property
    def offsets(self) -> Path:
        """``(N + 1,)``: image ``i`` has the regions ``offsets[i]`` to ``offsets[i + 1]``."""
        return self.root / f"{self.prefix}_offsets.npy"

    @property
    def boxes(self) -> Path:
        """``(N, L, 4)`` or ``(ΣL, 4)``, in the rows of the regions."""
        return self.root / f"{self.prefix}_boxes.npy"

    @property
    def texts(self) -> Path:
        """One text a line."""
        return self.root / f"{self.prefix}_caps.txt"

    @property
    def ids(self) -> Path:
        """One id a line, for each image or for each text."""
        return self.root / f"{self.prefix}_ids.txt"

    @property
    def records(self) -> Path:
        """One record a line, as JSON, with all that the extracted source knew."""
        return self.root / f"{self.prefix}_records.jsonl"


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest of ``lightning extract``; ``None`` for a folder that it did not write.

    Raises:
        InputError: the folder is half done or of another version, or its manifest cannot be read.
    """
    if (root / PROGRESS).exists():
        raise InputError(f"{root} is half done: run the same `lightning extract` again to finish")
    if not (root / MANIFEST).exists():
        return None
    manifest = read_json(root / MANIFEST)
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{root / MANIFEST} is of version {manifest.get('version')}, not {VERSION}: "
            "run `lightning extract` again, into another folder"
        )
    manifest = {"encoder": {}, "class_names": [], **manifest}
    if not isinstance(manifest["encoder"], dict) or not isinstance(manifest["class_names"], list):
        raise InputError(f"{root / MANIFEST} is damaged: run `lightning extract` again")
    return manifest


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: there is none.
    """
    try:
        value = json.loads(read_text(path))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        what = f"{path} cannot be read: {one_line(error)}"
        raise InputError(f"{what}: it is damaged, `lightning extract` makes it anew") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object")
    return value


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without the blanks around them.

    Raises:
        InputError: the file is missing or unreadable, or a line is empty.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path} cannot be read: there is no such file") from None
    # not splitlines: captions from the web contain other separators
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []
    for number, line in enumerate(lines, start=1):
        if not line:
            raise InputError(f"{path}, line {number} is empty")
    return lines


_FIELDS = tuple(field.name for field in dataclasses.fields(Record))


@dataclass(frozen=True)
class RowRecord(Record):
    """A record with the place of its regions.

    Attributes:
        prefix: of the files that hold them.
        row: their row in these files.
    """

    prefix: str = ""
    row: int = 0


def to_line(record: Record) -> str:
    """The record as one line of JSON."""
    values = dataclasses.asdict(record)
    return json.dumps({name: values[name] for name in _FIELDS}, ensure_ascii=False)


def read_records(path: Path, prefix: str) -> list[RowRecord]:
    """The records that :func:`to_line` wrote, row by row.

    Raises:
        InputError: the file cannot be read, or a line is no record.
    """
    records = []
    for row, line in enumerate(read_lines(path)):
        try:
            records.append(_record(json.loads(line), prefix, row))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}, line {row + 1} is no record: {one_line(error)}") from error
    return records


def _record(values: dict[str, Any], prefix: str, row: int) -> RowRecord:
    values["boxes"] = [Box(**box) for box in values.get("boxes", ())]
    frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return RowRecord(**frozen, prefix=prefix, row=row)
