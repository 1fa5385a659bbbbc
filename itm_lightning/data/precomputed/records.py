"""Records as lines of JSON: nothing of the source they come from is lost."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itm_lightning.data.precomputed.files import read_lines
from itm_lightning.data.source import Box, Record
from itm_lightning.errors import InputError, one_line

_FIELDS = tuple(field.name for field in dataclasses.fields(Record))


@dataclass(frozen=True)
class RowRecord(Record):
    """A record that knows where its regions are.

    Attributes:
        prefix: which files.
        row: which row of them.
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
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}, line {row + 1} is no record: {one_line(error)}") from error
    return records


def _record(values: dict[str, Any], prefix: str, row: int) -> RowRecord:
    values["boxes"] = [Box(**box) for box in values.get("boxes", ())]
    frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return RowRecord(**frozen, prefix=prefix, row=row)
