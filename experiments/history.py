"""Draws the field's history: the year of a method against its score, of ``history.csv``.

    python experiments/history.py history.png

A row of the file is a method on a benchmark: what we measured (and its deviation over seeds), and
what its authors, or later tables on other features, published.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

PANELS = {
    "wikipedia": "Wikipedia, the features of 2010: class mAP, mean of both directions",
    "flickr8k": "Flickr8k val, frozen EfficientNet-Lite0 + MiniLM unless said: rsum",
    "scenes": "scenes, test split, from scratch in minutes: rsum",
}
OURS, PUBLISHED = "#2b6cb0", "#b7791f"


def main(picture: str) -> None:
    """Writes the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = defaultdict(list)
    with (Path(__file__).parent / "history.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["benchmark"]].append(row)
    shown = [name for name in PANELS if name in rows]
    figure, axes = plt.subplots(len(shown), 1, figsize=(9, 3.6 * len(shown)), squeeze=False)
    for name, axis in zip(shown, axes[:, 0], strict=True):
        draw(axis, sorted(rows[name], key=lambda row: int(row["year"])))
        axis.set_title(PANELS[name], loc="left", fontsize=10)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def draw(axis: Any, rows: list[dict[str, str]]) -> None:
    """One method a column, by year: on an axis of time the last years would bunch up."""
    columns = range(len(rows))
    for side, colour, marker in (("ours", OURS, "o"), ("published", PUBLISHED, "_")):
        there = [(c, float(row[side])) for c, row in zip(columns, rows, strict=True) if row[side]]
        size = {"ours": 7, "published": 18}[side]  # a published figure of the same features shows
        label = {
            "ours": "measured here",
            "published": "published: the dash at the circle is of the same features",
        }[side]
        axis.plot(*zip(*there, strict=True), marker, color=colour, label=label, markersize=size)
    for column, row in zip(columns, rows, strict=True):
        if row["spread"]:
            axis.errorbar(column, float(row["ours"]), float(row["spread"]), color=OURS, capsize=3)
    axis.set_xticks(columns, [f"{row['method']}\n{row['year']}" for row in rows], fontsize=7)
    axis.tick_params(axis="x", rotation=45)
    axis.set_ylim(0, 1.08 * axis.get_ylim()[1])
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=7, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "history.png")
