"""Files that list a dataset (JSON, JSON lines, CSV, Parquet), and the names of its splits."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from itm_lightning.errors import InputError, one_line

# Karpathy's split of COCO divides the training images into "train" and "restval".
USUAL = {"train": ("train", "restval"), "val": ("val", "validation", "dev"), "test": ("test",)}


class SplitNames:
    """Which of a dataset's own names count as ``"train"``, ``"val"`` and ``"test"``.

    Args:
        given: names that replace the usual ones, by split.

    Raises:
        InputError: ``given`` has a key that is no split.
    """

    def __init__(self, given: Mapping[str, Sequence[str]] | None = None) -> None:
        unknown = sorted(set(given or {}) - set(USUAL))
        if unknown:
            raise InputError(
                f"data.source.splits names {', '.join(unknown)}; it takes {', '.join(USUAL)}"
            )
        self._names = {**USUAL, **(given or {})}

    def __getitem__(self, split: str) -> Sequence[str]:
        return self._names[split]

    def check(self, found: Iterable[str], where: str) -> None:
        """Raises InputError where none of the names ``found`` in a dataset counts as a split."""
        found = dict.fromkeys(map(str, found))
        if found and not any(name in names for names in self._names.values() for name in found):
            raise InputError(
                f"{where} has the splits {', '.join(list(found)[:10])}; "
                "data.source.splits says which count as train, val and test"
            )


def read_json(path: Path, flag: str) -> Any:
    """The contents of a JSON file.

    Args:
        path: the file.
        flag: the flag that names it.

    Raises:
        InputError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"annotations {path} are missing: set {flag}") from None
        raise InputError(f"{path} ({flag}) cannot be read: {one_line(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {one_line(error)}") from error


Row = dict[str, Any]


def _json_lines(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _csv(path: Path) -> list[Row]:
    with path.open(
        encoding="utf-8-sig", newline=""
    ) as file:  # -sig: spreadsheets write a byte-order mark
        return list(csv.DictReader(file))


def _parquet(path: Path) -> list[Row]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}


def numbered_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a table, each with its name for messages.

    Raises:
        InputError: the file is missing, of no kind in :data:`READERS`, or malformed.
    """
    if path.suffix not in READERS:
        raise InputError(f"{path} is no table: it must end in {', '.join(READERS)}")
    try:
        rows = READERS[path.suffix](path)
    except FileNotFoundError:
        raise InputError(f"table {path} is missing: set data.source.metadata") from None
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are one of the first two
        raise InputError(f"{path} is no valid {path.suffix} table: {one_line(error)}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"row {number} of {path} is no JSON object")
        yield f"row {number} of {path}", row


def cell(row: Row, column: str, flag: str, where: str) -> Any:
    """The row's value in the column that ``flag`` names.

    Raises:
        InputError: there is no such column; the message lists the columns.
    """
    if column not in row:
        raise InputError(no_column(where, column, flag, row))
    return row[column]


def no_column(where: str, column: str, flag: str, columns: Any) -> str:
    """The message that there is no such column, with a list of the columns."""
    return f"{where} has no column {column!r} ({flag}); it has {', '.join(map(str, columns))}"


def as_texts(value: Any) -> tuple[Any, ...]:
    """The texts in a cell of one or of a list; :func:`well_formed` checks that they are text."""
    if value is None or isinstance(value, str):
        return (value,)
    return tuple(value)
