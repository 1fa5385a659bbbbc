"""Tables in files: JSON lines, CSV and Parquet, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from itm_lightning.errors import InputError, one_line

Row = dict[str, Any]


def _json_lines(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a mark
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
    """The rows of a table, each with the words that name it in a message.

    Raises:
        InputError: the file is missing, of no kind in :data:`READERS`, or malformed.
    """
    if path.suffix not in READERS:
        raise InputError(f"{path} is no table: it must end in {', '.join(READERS)}")
    try:
        rows = READERS[path.suffix](path)
    except FileNotFoundError:
        raise InputError(f"table {path} is missing: set data.source.metadata") from None
    except (OSError, ValueError, csv.Error) as error:  # what pyarrow raises is one of the first two
        raise InputError(f"{path} is no valid {path.suffix} table: {one_line(error)}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"row {number} of {path} is no JSON object")
        yield f"row {number} of {path}", row


def cell(row: Row, column: str, flag: str, where: str) -> Any:
    """What the row has in the column that ``flag`` names.

    Raises:
        InputError: there is no such column; the message lists those there are.
    """
    if column not in row:
        raise InputError(no_column(where, column, flag, row))
    return row[column]


def no_column(where: str, column: str, flag: str, columns: Any) -> str:
    """The sentence that says there is no such column, and lists those there are."""
    return f"{where} has no column {column!r} ({flag}); it has {', '.join(map(str, columns))}"


def as_captions(value: Any) -> tuple[Any, ...]:
    """A cell of one caption or of a list of them; whether they are text is checked later."""
    if value is None or isinstance(value, str):
        return (value,)
    return tuple(value)
