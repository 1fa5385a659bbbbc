"""The table of a comparison, one row a variant: as dictionaries, CSV, Markdown, and printed."""

from __future__ import annotations

import csv
import html
import io
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from itm_lightning.compare.measurements import Measurement
from itm_lightning.compare.runs import Variant, class_name
from itm_lightning.compare.significance import Difference
from itm_lightning.errors import printable

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
_HUB = re.compile(r"hub/.*(rsum|_skewness)$")  # the CSV has the other columns, too
_EXPLANATION = re.compile(r"explanation/[^/]+$")
_PRINTED = ("i2t_R@1", "t2i_R@1", "rsum", "pairs_accuracy", "head_parameters", "ms_per_1000_pairs")
_FORMATS = {
    "head_parameters": "{:,.0f}",
    "train_seconds": "{:.0f}",
    "ms_per_1000_pairs": "{:.2f}",
    "peak_mb": "{:.3g}",
}


def rows_of(
    variants: Sequence[Variant], measurements: Mapping[str, Measurement]
) -> list[dict[str, Any]]:
    """The table's rows, one a variant.

    Returns:
        For each variant ``label``, ``seeds`` (how many) and ``error``; of each score of
        :data:`SCORES` and of ``train_seconds``, over the seeds, the mean under its own name and
        the standard deviation (of a sample: n − 1) as ``<name> std``; and of its measurement
        ``head_parameters``, ``ms_per_1000_pairs``, ``peak_mb``, ``indexable``, ``explanation/…``,
        and, of its first seed alone, with the correction's name, ``hub/NNN rsum`` and so on. What
        there is none of is None or absent.
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
        row |= _hub(measurement.hub) if measurement.hub else {}
    return row | {"error": variant.error}


def _hub(hub: Mapping[str, Any]) -> dict[str, float]:
    """Scores with the correction, and hubness without and with it, of the first seed."""
    name, after = class_name(hub["correction"]), hub["scores"]
    scores = {f"hub/{name} {key}": after[key] for key in SCORES if key in after}
    return scores | {
        f"hub/{label}{key}": value
        for label, when in (("", "before"), (f"{name} ", "after"))
        for key, value in hub["hubness"][when].items()
    }


def _over_seeds(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {}
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {name: statistics.fmean(values), f"{name} std": deviation}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row; a column for each key of any row.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    for row in rows:
        texts = {k: f"'{v}" for k, v in row.items() if str(v)[:1] in "=+-@" and isinstance(v, str)}
        writer.writerow({**row, **texts})
    return text.getvalue()


def to_markdown(rows: Sequence[Mapping[str, Any]], differences: Sequence[Difference]) -> str:
    """The same rounded, mean ± standard deviation; below, why variants failed, and differences."""
    own = [key for key in _HEADS if any(row.get(key) is not None for row in rows)]
    every = list(dict.fromkeys(key for row in rows for key in row))
    lines = _lines(rows, [*own, *filter(_HUB.match, every)])
    if explained := list(filter(_EXPLANATION.match, every)):
        lines += ["", *_lines(rows, explained)]
    failed = [f"{row['label']} failed: {row['error']}" for row in rows if row["error"]]
    lines += [f"\n{without_markup(text)}" for text in failed]
    if differences:
        heads = ["", "score", "difference", "95 %", "p (Holm)", "wins", "losses"]
        lines += ["", _line(heads), _line([":--", ":--", *["--:"] * (len(heads) - 2)])]
        lines += [_line(_cells(difference)) for difference in differences]
    return "\n".join(lines) + "\n"


def _lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    heads = [_HEADS.get(key, key.partition("/")[2].replace("_", " ")) for key in columns]
    body = [[row["label"], _seeds(row), *(_cell(row, key) for key in columns)] for row in rows]
    head = [["", "seeds", *heads], [":--", *["--:"] * (1 + len(heads))]]
    return [_line(cells) for cells in (*head, *body)]


def to_print(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The columns that one looks at first, for a terminal."""
    columns = [key for key in _PRINTED if any(row.get(key) is not None for row in rows)]
    table = Table(title=escape(printable(title)))
    table.add_column("")
    for head in ("seeds", *(_HEADS[key] for key in columns)):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            escape(printable(row["label"])), _seeds(row), *(_cell(row, key) for key in columns)
        )
    return table


def _seeds(row: Mapping[str, Any]) -> str:
    return str(row["seeds"]) if row["seeds"] else "failed"


def _cells(difference: Difference) -> list[str]:
    return [
        f"{difference.first} − {difference.second}",
        difference.metric,
        f"{difference.difference:+.1f}",
        f"[{difference.low:+.1f}, {difference.high:+.1f}]",
        f"{difference.p_holm:.2g}" + (" *" if difference.is_significant else ""),
        str(difference.wins),
        str(difference.losses),
    ]


def _cell(row: Mapping[str, Any], key: str) -> str:
    value, deviation = row.get(key), row.get(f"{key} std")
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = _FORMATS.get(key, "{:.2f}" if "/" in key and not key.endswith("rsum") else "{:.1f}")
    return shown.format(value) + ("" if deviation is None else f" ± {shown.format(deviation)}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(without_markup, cells))} |"


def without_markup(text: str) -> str:
    """Names and messages as they are, where Markdown would read HTML, links or cells in them."""
    return re.sub(r"\||(?<=\])\(", r"\\\g<0>", html.escape(printable(text), quote=False))
