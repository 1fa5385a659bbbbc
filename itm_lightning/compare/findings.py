"""Findings: all that a comparison's report, table and files show, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itm_lightning.compare.measurements import Measurement, Measurements, disagreements
from itm_lightning.compare.runs import Variant, check_comparable, class_name
from itm_lightning.compare.significance import Difference, differences
from itm_lightning.compare.table import rows_of, to_csv, to_markdown, without_markup
from itm_lightning.data import Record
from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.atomic_files import replacing, write_text
from itm_lightning.utils.progress_bars import progress_bar


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
    differences: list[Difference]
    measurements: Mapping[str, Measurement]
    notes: list[str]
    records: tuple[Record, ...] = field(default=(), repr=False)


def find(
    factor: str,
    variants: Sequence[Variant],
    notes: Sequence[str],
    measurements: Measurements,
) -> Findings:
    """Compares variants.

    Args:
        factor: what is varied.
        variants: those without an outcome have an error.
        notes: what is known before.
        measurements: measures each variant, or knows what was measured.

    Raises:
        InputError: no variant has an outcome, or their scores cannot be compared.
    """
    there = [variant for variant in variants if variant.outcomes]
    if not there:
        raise InputError(
            "nothing to compare: " + "; ".join(f"{v.label}: {v.error}" for v in variants)
        )
    records = check_comparable([outcome for variant in there for outcome in variant.outcomes])
    notes = list(notes)
    results = there[0].outcomes[0].results
    measured = _measured(there, measurements, notes)
    found: list[Difference] = []
    if records:
        ranks = {v.label: {run.seed: run.per_query for run in v.outcomes} for v in there}
        found = differences(ranks, {record.image_id: record.text_ids for record in records})
    else:
        notes.append("The data cannot be read any more: differences were not tested.")
    return Findings(
        factor=factor,
        split=results["split"],
        protocol=class_name(results["protocol"]),
        dataset=class_name(results["dataset"]),
        images=results["images"],
        texts=results["texts"],
        variants=tuple(variants),
        rows=rows_of(variants, measured),
        differences=found,
        measurements=measured,
        notes=notes,
        records=records,
    )


def _measured(
    variants: Sequence[Variant], measurements: Measurements, notes: list[str]
) -> dict[str, Measurement]:
    queries = disagreements(variants)
    found = {}
    for variant in progress_bar(variants, desc="measure", unit="variant"):
        try:
            found[variant.label] = measurements.of(variant, queries)
        except Exception as error:  # of a user's own head: the runs were trained all the same
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            notes.append(f"{variant.label} was not measured: {kind}{one_line(error)}.")
    return found


def title_of(findings: Findings) -> str:
    """What was scored, in a line."""
    return (
        f"{findings.dataset} {findings.split}: {findings.images:,} images, {findings.texts:,} "
        f"texts, protocol {findings.protocol}; mean ± standard deviation over seeds"
    )


def write(findings: Findings, output: Path) -> None:
    """Writes ``comparison.csv``, ``comparison.md`` and ``ranks.npz``.

    The last has every run's arrays of ``<split>_ranks.npz``, as ``<label>/<seed>/<array>``.
    """
    write_text(output / "comparison.csv", to_csv(findings.rows))
    title, *notes = map(without_markup, (title_of(findings), *findings.notes))
    table = to_markdown(findings.rows, findings.differences)
    lines = "".join(f"- {note}\n" for note in notes)
    write_text(output / "comparison.md", f"{title}\n\n{table}\n{lines}")
    arrays: dict[str, Any] = {
        f"{variant.label}/{outcome.seed}/{name}": values
        for variant in findings.variants
        for outcome in variant.outcomes
        for name, values in outcome.per_query.items()
    }
    with replacing(output / "ranks.npz") as file:
        np.savez_compressed(file, **arrays)
