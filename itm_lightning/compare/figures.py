"""The figures of a comparison, each drawn from its findings alone.

A figure is None where the findings lack what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from itm_lightning.compare.drawing import (
    GRID,
    INK,
    QUIET,
    add_legend,
    as_text,
    look,
    new_axes,
    place_labels,
)
from itm_lightning.compare.findings import Findings
from itm_lightning.compare.runs import Outcome, Variant, class_name
from itm_lightning.data.source import texts_by_id
from itm_lightning.metrics.word_classes import WORD_CLASSES, classes_in, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKED = (1, 5, 10)  # those of rsum
_KS = np.unique([*np.geomspace(1, 100, 40).round().astype(int), *_MARKED])
_FEWEST = 30  # texts: the R@1 of fewer is within ± 18 points at best
_FEW, _SHORT = 9, 18  # labels that have room beside their points, and their letters in a line
_LENGTHS = 5  # groups of texts
_WAYS = {"i2t": "image → text", "t2i": "text → image"}


def quality_against_cost(findings: Findings) -> Figure | None:
    """Rsum, with its deviation over seeds, over the milliseconds that 1,000 pairs take."""
    points, labels = [], []
    axes = new_axes()
    for i, row in enumerate(findings.rows):
        cost, score = row.get("ms_per_1000_pairs"), row.get("rsum")
        if cost is None or score is None:
            continue
        shown = look(i) | {"linestyle": "none", "markersize": 8}
        if not row["indexable"]:
            shown |= {"markerfacecolor": "none", "markeredgecolor": shown["color"]}
            shown["markeredgewidth"] = 1.8
        axes.errorbar(cost, score, row.get("rsum std"), elinewidth=1.2, **shown)
        points.append((cost, score))
        labels.append(_broken(row["label"]))
    if not points:
        return None
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.15)
    axes.set_xlabel("ms per 1,000 pairs, on a log axis")
    axes.set_ylabel("rsum")
    _plain_log_axis(axes)
    front = _front(points)
    axes.plot(
        *zip(*front, strict=True), color=QUIET, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1
    )
    if len(labels) <= _FEW and max(map(len, "\n".join(labels).split("\n"))) <= _SHORT:
        place_labels(axes, points, labels, front)
    else:
        _add_legend(axes, findings)
    return _figure(axes)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The variants than which none is both cheaper and better, the cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def recall_curve(findings: Findings, way: str) -> Figure | None:
    """R@K over K in one direction, the mean over seeds with its deviation."""
    axes = new_axes()
    for i, variant in _with_outcomes(findings):
        curves = np.stack([_recall(o.per_query[f"{way}_ranks"], _KS) for o in variant.outcomes])
        shown = look(i)
        marked = np.flatnonzero(np.isin(_KS, _MARKED)).tolist()
        axes.plot(_KS, curves.mean(axis=0), markevery=marked, **shown)
        if len(curves) > 1:
            spread = curves.std(axis=0, ddof=1)
            low, high = curves.mean(axis=0) - spread, curves.mean(axis=0) + spread
            axes.fill_between(_KS, low, high, color=shown["color"], alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlim(1, 100)
    _plain_log_axis(axes)
    axes.set_xlabel("K, on a log axis")
    axes.set_ylabel(f"R@K, {_WAYS[way]}, %")
    _add_legend(axes, findings)
    return _figure(axes)


def by_length(findings: Findings) -> Figure | None:
    """R@1 of texts as queries, by their number of words."""
    lengths = {i: len(words_of(text)) for i, text in texts_by_id(findings.records).items()}
    if not lengths:
        return None
    edges = np.unique(np.quantile(list(lengths.values()), np.linspace(0, 1, _LENGTHS + 1)[1:]))
    groups: dict[str, list[int]] = {}
    at_least = min(lengths.values())
    for edge in edges.astype(int):
        name = f"{at_least}–{edge}" if edge > at_least else f"{edge}"
        groups[name] = [i for i, length in lengths.items() if at_least <= length <= edge]
        at_least = edge + 1
    axes = new_axes()
    for i, scores in _recall_by_group(findings, groups).items():
        axes.plot(range(len(groups)), scores, **look(i))
    names = [f"{name}\n{len(ids):,} texts" for name, ids in groups.items()]
    axes.set_xticks(range(len(groups)), names)
    axes.set_xlabel("words in the text")
    axes.set_ylabel("R@1, text → image, %")
    axes.grid(visible=False, axis="x")
    axes.set_ylim(bottom=0)
    _add_legend(axes, findings)
    return _figure(axes)


def by_word_class(findings: Findings) -> Figure | None:
    """R@1 of texts as queries that have a word of a class, and of those that have none."""
    texts = texts_by_id(findings.records)
    if not texts:
        return None
    classes = {i: classes_in(text) for i, text in texts.items()}
    groups = {
        name: [i for i, found in classes.items() if name in found] for name in WORD_CLASSES
    } | {"none of these": [i for i, found in classes.items() if not found]}
    groups = {name: ids for name, ids in groups.items() if ids}
    names = [
        f"{name}\n{len(ids):,} texts" + ("" if len(ids) >= _FEWEST else ": too few")
        for name, ids in groups.items()
    ]
    by_variant = _recall_by_group(findings, groups)
    axes = new_axes(rows=len(groups) * max(2, len(by_variant) // 3))
    height = 0.6 / max(1, len(by_variant) - 1)
    for place, (i, scores) in enumerate(by_variant.items()):
        ys = np.arange(len(groups)) + (place * height - 0.3 if len(by_variant) > 1 else 0)
        axes.plot(scores, ys, **look(i) | {"linestyle": "none"})
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("R@1, text → image, %")
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    for edge in np.arange(len(groups) - 1) + 0.5:
        axes.axhline(edge, color=GRID, linewidth=0.6)
    _add_legend(axes, findings)
    return _figure(axes)


def seed_spread(findings: Findings) -> Figure | None:
    """The rsum of every run, and each variant's mean, the best on top."""
    found = [(i, [o.scores["rsum"] for o in v.outcomes]) for i, v in _with_outcomes(findings)]
    found.sort(key=lambda item: -float(np.mean(item[1])))
    axes = new_axes(rows=len(found))
    for place, (i, scores) in enumerate(found):
        shown = look(i) | {"linestyle": "none", "markersize": 7, "alpha": 0.85}
        axes.plot(scores, [place] * len(scores), **shown)
        if len(scores) > 1:
            axes.plot([np.mean(scores)] * 2, [place - 0.32, place + 0.32], color=INK, linewidth=1.4)
    axes.set_yticks(range(len(found)), [_broken(findings.variants[i].label) for i, _ in found])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.set_xlabel("rsum")
    return _figure(axes)


def learning_curve(findings: Findings, unit: str) -> Figure | None:
    """Rsum on val by ``"epochs"`` or ``"minutes"``: a thin line a seed, a thick one their mean."""
    axes = new_axes()
    for i, variant in _with_outcomes(findings):
        curves = [curve for o in variant.outcomes if (curve := _history(o, unit)) is not None]
        shown = look(i) | {"marker": None}
        for xs, ys in curves if len(curves) > 1 else []:
            axes.plot(xs, ys, **shown | {"linewidth": 0.7, "alpha": 0.5})
        if curves:
            shortest = min(len(xs) for xs, _ in curves)
            mean = np.mean([(xs[:shortest], ys[:shortest]) for xs, ys in curves], axis=0)
            axes.plot(*mean, **look(i) | {"markersize": 4})
    if not axes.lines:
        return None
    axes.set_xlabel("epoch" if unit == "epochs" else "minutes of training")
    axes.set_ylabel("rsum on val")
    axes.set_xlim(left=0)
    _add_legend(axes, findings)
    return _figure(axes)


def hubs(findings: Findings, name: str) -> Figure | None:
    """``rsum`` or ``t2i_skewness`` before (hollow) and after (filled) the hub correction."""
    found = []
    for i, variant in enumerate(findings.variants):
        measurement = findings.measurements.get(variant.label)
        if measurement is not None and (hub := measurement.hub) is not None:
            if name == "rsum":
                values = variant.outcomes[0].scores[name], hub["scores"][name]
            else:
                values = hub["hubness"]["before"][name], hub["hubness"]["after"][name]
            found.append((i, *values, class_name(hub["correction"])))
    if not found:
        return None
    axes = new_axes(rows=len(found))
    for place, (i, before, after, _) in enumerate(found):
        shown = look(i) | {"linestyle": "none", "markersize": 7}
        axes.annotate(
            "", (after, place), (before, place), arrowprops={"arrowstyle": "->", "color": QUIET}
        )
        hollow = {"markerfacecolor": "none", "markeredgecolor": shown["color"]}
        axes.plot(before, place, **shown | hollow | {"markeredgewidth": 1.6})
        axes.plot(after, place, **shown)
    axes.set_yticks(range(len(found)), [_broken(findings.variants[i].label) for i, *_ in found])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    titles = {"rsum": "rsum", "t2i_skewness": "skewness of N₁₀, text → image"}
    axes.set_xlabel(f"{titles[name]}, without and with {found[0][3]}")
    return _figure(axes)


def _figure(axes: Axes) -> Figure:
    figure: Any = axes.figure
    return figure


def _broken(label: str) -> str:
    """A class's arguments on lines of their own."""
    return as_text(label).replace("(", "\n(", 1).replace(", ", ",\n")


def _with_outcomes(findings: Findings) -> list[tuple[int, Variant]]:
    """Variants that have a run, with the index that their look goes by."""
    return [(i, v) for i, v in enumerate(findings.variants) if v.outcomes]


def _add_legend(axes: Axes, findings: Findings) -> None:
    add_legend(axes, {i: variant.label for i, variant in _with_outcomes(findings)})


def _recall(ranks: NDArray[Any], ks: NDArray[Any]) -> NDArray[np.float64]:
    """R@K in percent for each K."""
    return 100 * np.searchsorted(np.sort(ranks), ks, side="right") / len(ranks)


def _recall_by_group(
    findings: Findings, groups: Mapping[str, Sequence[int]]
) -> dict[int, NDArray[np.float64]]:
    """By variant, the R@1 of each group of texts, mean over seeds; NaN where they are few."""
    result = {}
    for i, variant in _with_outcomes(findings):
        scores = np.full((len(variant.outcomes), len(groups)), np.nan)
        for row, outcome in enumerate(variant.outcomes):
            ids, hits = outcome.per_query["t2i_ids"], outcome.per_query["t2i_ranks"] == 1
            for column, group in enumerate(groups.values()):
                members = hits[np.isin(ids, group)]
                if len(members) >= _FEWEST:
                    scores[row, column] = 100 * members.mean()
        result[i] = scores.mean(axis=0)
    return result


def _history(outcome: Outcome, unit: str) -> tuple[list[float], list[float]] | None:
    """Epochs, from 1, or minutes, every epoch taken to be as long; and rsum on val after each."""
    stepped = [row for row in outcome.history if "train/loss" in row]
    trained = max((row.get("epoch", -1) for row in stepped), default=-1)
    rows = [  # the best checkpoint, scored again when the fit has ended, is no point of the curve
        row
        for row in outcome.history
        if "val/rsum" in row and row.get("epoch", trained + 1) <= trained
    ]
    if len(rows) < 2:
        return None
    epochs = [row["epoch"] + 1 for row in rows]
    if unit == "minutes":
        if outcome.train_seconds is None:
            return None
        epochs = [epoch * outcome.train_seconds / 60 / epochs[-1] for epoch in epochs]
    return epochs, [row["val/rsum"] for row in rows]


def _plain_log_axis(axes: Axes) -> None:
    """Ticks as plain numbers: 0.1, 1, 10, with 0.2 and 0.5 where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    few = high / low < 1000
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
