"""Findings: all that a comparison's report, table and files show, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from itm_lightning.compare.measurements import Measurement
from itm_lightning.compare.runs import Variant
from itm_lightning.data import Record


@dataclass(frozen=True)
class Findings:
    """What a comparison found.

    Attributes:
        factor: what is varied: ``similarity``, ``objective``, …
        split: that was scored.
        protocol: its class name.
        dataset: the source's class name.
        images: how many were ranked.
        texts: how many were ranked.
        variants: in the order in which they were given.
        rows: the table, one a variant, see :func:`itm_lightning.compare.table.rows_of`.
        differences: one a pair of variants and metric.
        measurements: by label; a variant that could not be measured has none.
        notes: what a reader must know, a sentence each.
        records: of the split, with its texts; none where the data is not there any more.
    """

    factor: str
    split: str
    protocol: str
    dataset: str
    images: int
    texts: int
    variants: tuple[Variant, ...]
    rows: list[dict[str, Any]]
    differences: list[Any]
    measurements: Mapping[str, Measurement]
    notes: list[str]
    records: tuple[Record, ...] = field(default=(), repr=False)
