"""The table of a comparison: one row a variant, as dictionaries, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from itm_lightning.compare.measurements import Measurement
from itm_lightning.compare.runs import Variant

SCORES = (
    *(f"{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)),
    *("rsum", "i2t_medr", "t2i_medr", "pairs_accuracy"),
)
#: Heads of the Markdown table's columns, and how their numbers are shown.
_HEADS = {
    **{f"{way}_R@{k}": f"{way} R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)},
    "rsum": "rsum",
    "i2t_medr": "i2t medr",
    "t2i_medr": "t2i medr",
    "pairs_accuracy": "minimal pairs %",
    "head_parameters": "head's parameters",
    "train_seconds": "training s",
    "ms_per_1000_pairs": "ms / 1,000 pairs",
    "peak_mb": "peak MB",
    "indexable": "index",
}
_FORMATS = {"head_parameters": "{:,.0f}", "train_seconds": "{:.0f}", "ms_per_1000_pairs": "{:.2f}"}


def rows_of(
    variants: Sequence[Variant], measurements: Mapping[str, Measurement]
) -> list[dict[str, Any]]:
    """The table's rows, one a variant.

    Returns:
        For each variant ``label``, ``seeds`` (how many) and ``error``; of each score of
        :data:`SCORES` and of ``train_seconds``, over the seeds, the mean under its own name and
        the standard deviation (of a sample: n − 1) as ``<name> std``; and of its measurement
        ``head_parameters``, ``ms_per_1000_pairs``, ``peak_mb``, ``indexable``, ``explanation/…``,
        and ``hub/…``. What there is none of is None or absent.
    """
    return [_row(variant, measurements.get(variant.label)) for variant in variants]


def _row(variant: Variant, measurement: Measurement | None) -> dict[str, Any]:
    row: dict[str, Any] = {"label": variant.label, "seeds": len(variant.outcomes)}
    for score in SCORES:
        row |= _over_seeds(score, [o.scores[score] for o in variant.outcomes if score in o.scores])
    seconds = [o.train_seconds for o in variant.outcomes if o.train_seconds is not None]
    row |= _over_seeds("train_seconds", seconds)
    if measurement is not None:
        for name in ("head_parameters", "ms_per_1000_pairs", "peak_mb", "indexable"):
            row[name] = getattr(measurement, name)
        row |= {f"explanation/{k}": v for k, v in (measurement.explanation or {}).items()}
        row |= {f"hub/{k}": v for k, v in (measurement.hub or {}).items() if not _is_nested(v)}
    return row | {"error": variant.error}


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _over_seeds(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {}
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {name: statistics.fmean(values), f"{name} std": deviation}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row; a column for each key of any row."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same rounded, mean ± standard deviation; a failed variant's reason below the table."""
    there = {key for row in rows for key, value in row.items() if value is not None}
    own = [key for key in _HEADS if key in there]
    others = [key for key in dict.fromkeys(k for row in rows for k in row) if "/" in key]
    columns = [*own, *(key for key in others if key in there)]
    heads = ["", "seeds", *(_HEADS.get(key, key.partition("/")[2]) for key in columns)]
    lines = [_line(heads), _line([":--", *["--:"] * (len(heads) - 1)])]
    for row in rows:
        seeds = str(row["seeds"]) if row["error"] is None else "failed"
        lines.append(_line([row["label"], seeds, *(_cell(row, key) for key in columns)]))
    failed = [f"{row['label']} failed: {row['error']}" for row in rows if row["error"] is not None]
    return "\n".join([*lines, *(f"\n{line}" for line in failed)]) + "\n"


def _cell(row: Mapping[str, Any], key: str) -> str:
    value, deviation = row.get(key), row.get(f"{key} std")
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = _FORMATS.get(key, "{:.1f}")
    return shown.format(value) + ("" if deviation is None else f" ± {shown.format(deviation)}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
