"""Files that list a dataset (JSON, JSON lines, CSV, Parquet), and the names of its splits."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.foreign_files import read_text, regular_file

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
        self._given = given is not None
        self._names = {**USUAL, **(given or {})}

    def __getitem__(self, split: str) -> Sequence[str]:
        return self._names[split]

    def check(self, counts: Mapping[str, int], where: str, may_have_others: bool = False) -> None:
        """Checks that every name in a dataset counts as a split, so that no photo is left out.

        Where ``data.source.splits`` is given, a name that it leaves out is meant, and a warning
        says how many photos are left out.

        Args:
            counts: how many photos each name has.
            where: the dataset, for the message.
            may_have_others: whether further names need no ``data.source.splits`` either.

        Raises:
            InputError: a name, or every name, counts as no split.
        """
        known = {name for names in self._names.values() for name in names}
        others = [name for name in counts if name not in known]
        listed = ", ".join(f"{name!r} ({count})" for name, count in list(counts.items())[:10])
        named = ", ".join(map(repr, others[:10]))
        if others and (len(others) == len(counts) or not (self._given or may_have_others)):
            raise InputError(
                f"{where} has the splits {listed}, of which {named} count as "
                "none of train, val and test: correct them, or say with data.source.splits which "
                "names count"
            )
        if others:
            warnings.warn(
                f"{where} has the splits {listed}; {named} are left out, as "
                "data.source.splits does not name them",
                stacklevel=2,
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
        return json.loads(read_text(path), object_pairs_hook=_object)
    except FileNotFoundError:
        raise InputError(f"annotations {path} are missing: set {flag}") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {one_line(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return made


def fault_of(error: Exception) -> str:
    """What is wrong with the contents of a file, by the error that they led to."""
    return f"lacks {error}" if isinstance(error, KeyError) else f"has a wrong value ({error})"


Row = dict[str, Any]


NumberedRow = tuple[str, Row]
"""A row with its number and file, as messages say it."""


def _json_lines(path: Path) -> Iterator[NumberedRow]:
    # not splitlines: strings may hold other separators, such as U+2028
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"row {number} of {path}"
            try:
                yield where, json.loads(line, object_pairs_hook=_object)
            except json.JSONDecodeError as error:
                what = f"{error.msg} at character {error.pos + 1}"
                raise InputError(f"{where} is no valid JSON: {what}") from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where} is no valid JSON: {one_line(error)}") from error


def _csv(path: Path) -> Iterator[NumberedRow]:
    """Rows with a cell for each of the header's."""
    lines = list(io.StringIO(read_text(path), newline=""))
    csv.field_size_limit(2**31 - 1)  # by default, a longer caption than 128 kB is refused
    rows = csv.reader(lines, strict=True)
    header: list[str] = []
    start = 0  # the line before the row
    try:
        for number, cells in enumerate(rows):
            where = f"row {number} of {path} (line {start + 1})"
            first, *goes_on = lines[start : rows.line_num]
            start = rows.line_num
            if not header:
                header = cells
                if twice := [name for name in header if header.count(name) > 1]:
                    raise InputError(f"{path} has two columns {twice[0]!r}: rename one")
                continue
            # a cell may hold line breaks, but where a quote is lost it holds whole rows
            if any(_are_rows(first, line, len(header)) for line in goes_on):
                raise InputError(f"{where} goes on over what looks like a row: close its quote")
            if cells and len(cells) != len(header):
                raise InputError(
                    f"{where} has {len(cells)} cells, but the header has {len(header)}: put quotes "
                    "around what holds a comma"
                )
            if cells:
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(
            f"the row of {path} in line {start + 1} is no valid CSV ({error}): see to its quotes"
        ) from error


def _are_rows(first: str, other: str, width: int) -> bool:
    """Whether two lines look like rows, which begin with files of one kind, or with none."""
    begins = (Path(line.split(",")[0].strip('"')).suffix for line in (first, other))
    return other.count(",") >= width - 1 and len(set(begins)) == 1


def _parquet(path: Path) -> Iterator[NumberedRow]:
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(regular_file(path, "table")).to_pylist()
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:  # pyarrow's errors have no common base class
        raise InputError(f"{path} is no valid .parquet table: {one_line(error)}") from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number} of {path}", row


READERS: dict[str, Callable[[Path], Iterator[NumberedRow]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}


def numbered_rows(path: Path) -> Iterator[NumberedRow]:
    """The rows of a table, each with its name for messages.

    Raises:
        InputError: the file is missing, of no kind in :data:`READERS`, or malformed.
    """
    if path.suffix not in READERS:
        raise InputError(f"{path} is no table: it must end in {', '.join(READERS)}")
    try:
        for where, row in READERS[path.suffix](path):
            if not isinstance(row, dict):
                raise InputError(f"{where} is no JSON object")
            yield where, row
    except FileNotFoundError:
        raise InputError(f"table {path} is missing: set data.source.metadata") from None


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
    return tuple(value) if isinstance(value, list) else (value,)
