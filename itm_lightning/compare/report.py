"""The report of a comparison: one HTML file that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from itm_lightning.compare.drawing import COLOURS, MARKERS, look, to_svg
from itm_lightning.compare.findings import Findings
from itm_lightning.compare.pictures import drawn
from itm_lightning.compare.runs import class_name
from itm_lightning.compare.significance import Difference
from itm_lightning.data.source import texts_by_id
from itm_lightning.errors import InputError
from itm_lightning.explain.definitions import MEASURES, rows
from itm_lightning.metrics.word_classes import WORD_CLASSES
from itm_lightning.utils.atomic_files import write_text
from itm_lightning.utils.images import as_image
from itm_lightning.utils.pages import data_uri, rendered

_SIDE = 160  # pixels of a thumbnail's longer side
_NAMED = 3  # variants that a sentence names before it counts them

ImageOf = Callable[[int], Path | Image.Image | None]


def write_report(findings: Findings, image_of: ImageOf, path: Path) -> None:
    """Writes the report.

    Args:
        findings: what it shows.
        image_of: gives an image by its id; None where there is none to show, as of a dataset of
            extracted features. One that cannot be read is not shown, either.
        path: of the HTML file.
    """
    figures = drawn(findings)
    ordered = sorted(findings.rows, key=lambda row: -(row.get("rsum") or float("-inf")))
    html = rendered(
        "compare/report.html",
        findings=findings,
        rows=ordered,
        best=_best(findings.rows),
        summary=summary(findings),
        marks={v.label: _mark(i) for i, v in enumerate(findings.variants)},
        differences=_by_pair(findings.differences),
        drawn=[
            (picture, to_svg(figure, picture.title))
            for picture, figure in figures
            if figure is not None
        ],
        missing=[picture.title for picture, figure in figures if figure is None],
        explanations=_explanations(findings),
        measures=MEASURES,
        disagreements=_disagreements(findings),
        texts=texts_by_id(findings.records),
        corrected=_corrected(findings),
        hubs=", ".join(
            sorted(
                {class_name(m.hub["correction"]) for m in findings.measurements.values() if m.hub}
            )
        ),
        records={record.image_id: record for record in findings.records},
        image_of_text={j: r.image_id for r in findings.records for j in r.text_ids},
        thumbnail=cache(partial(_thumbnail, image_of)),
        word_classes={name: sorted(words) for name, words in WORD_CLASSES.items()},
    )
    write_text(path, html)


def summary(findings: Findings) -> list[str]:
    """What the comparison says and what it cannot say, in plain sentences."""
    scored = sorted(
        (row for row in findings.rows if row.get("rsum") is not None), key=lambda row: -row["rsum"]
    )
    if not scored:
        return ["No variant has scores."]
    best = scored[0]
    sentences = [f"{best['label']} has the highest rsum, {_over_seeds(best)}."]
    if len(scored) > 1:
        sentences += _significance(findings.differences, best["label"], len(scored))
        sentences += _costs(scored)
    if any(row["seeds"] == 1 for row in scored):
        sentences.append(
            "Where a variant has one seed, its interval is about this one checkpoint on other "
            "images: another seed can give another order."
        )
    if findings.split == "val":
        sentences.append(
            "All scores are of val, on which each run's best checkpoint was chosen: they flatter "
            "every variant a little, and say nothing of a test split."
        )
    failed = [row["label"] for row in findings.rows if row.get("error")]
    if failed:
        sentences.append(f"{_listed(failed)} failed: the table says why.")
    return sentences


def _over_seeds(row: dict[str, Any]) -> str:
    if row["seeds"] == 1:
        return f"{row['rsum']:.1f} (one seed)"
    return f"{row['rsum']:.1f} ± {row['rsum std']:.1f} over {row['seeds']} seeds"


def _significance(differences: Sequence[Difference], best: str, scored: int) -> list[str]:
    of_rsum = [d for d in differences if d.metric == "rsum"]
    ahead = [d for d in of_rsum if best in (d.first, d.second)]
    beaten = [_other(d, best) for d in ahead if d.is_significant]
    level = [_other(d, best) for d in ahead if not d.is_significant]
    sentences = []
    if beaten:
        named = _listed(beaten) if len(beaten) <= _NAMED else f"{len(beaten)} of {scored - 1}"
        sentences.append(f"It is significantly better than {named}.")
    if level:
        named = _listed(level) if len(level) <= _NAMED else f"{len(level)} of {scored - 1}"
        sentences.append(f"That it is ahead of {named} can be chance.")
    count = sum(d.is_significant for d in of_rsum)
    if len(of_rsum) > 1:
        sentences.append(
            f"Of {len(of_rsum)} pairs, {count} differ significantly in rsum (5 %, Holm's "
            "correction over all pairs)."
        )
    return sentences


def _costs(scored: Sequence[dict[str, Any]]) -> list[str]:
    timed = [row for row in scored if row.get("ms_per_1000_pairs")]
    if len(timed) < 2:
        return []
    cheapest = min(timed, key=lambda row: row["ms_per_1000_pairs"])
    label, cost = cheapest["label"], cheapest["ms_per_1000_pairs"]
    if cheapest is scored[0]:
        return ["It is also the cheapest to score."]
    if timed[0] is not scored[0]:
        return []
    times = _rounded(scored[0]["ms_per_1000_pairs"] / cost)
    return [f"The cheapest to score is {label}; {scored[0]['label']} takes {times} times as long."]


def _rounded(number: float) -> str:
    """Two digits, and no more: 1.3, 27, 35,000."""
    return f"{float(f'{number:.2g}'):,.{1 if number < 9.5 else 0}f}"


def _other(difference: Difference, label: str) -> str:
    return difference.second if difference.first == label else difference.first


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _best(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By column, the best number of any row."""
    lower = {"i2t_medr", "t2i_medr", "ms_per_1000_pairs", "peak_mb", "train_seconds"}
    lower.add("head_parameters")
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, []).append(value)
    return {name: (min if name in lower else max)(values) for name, values in found.items()}


def _mark(index: int) -> dict[str, str]:
    shown = look(index)
    number = COLOURS.index(shown["color"])
    return {"colour": f"var(--variant-{number})", "character": MARKERS[shown["marker"]]}


def _by_pair(differences: Sequence[Difference]) -> dict[tuple[str, str], dict[str, Any]]:
    """Differences of rsum by (row, column): the row's minus the column's, in both orders."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for d in differences:
        if d.metric != "rsum":
            continue
        cell = {
            "p": d.p_holm,
            "is_significant": d.is_significant,
        }
        ahead = {"difference": d.difference, "low": d.low, "high": d.high}
        behind = {"difference": -d.difference, "low": -d.high, "high": -d.low}
        cells[d.first, d.second] = cell | ahead | {"wins": d.wins, "losses": d.losses}
        cells[d.second, d.first] = cell | behind | {"wins": d.losses, "losses": d.wins}
    return cells


def _corrected(findings: Findings) -> dict[str, dict[str, tuple[float, float]]]:
    """By variant, score by score: with the hub correction, and what that is more than without."""
    found = {}
    for variant in findings.variants:
        one = findings.measurements.get(variant.label)
        if one is not None and one.hub is not None:
            plain = variant.outcomes[0].scores  # the seed that was measured
            after = one.hub["scores"]
            found[variant.label] = {
                name: (after[name], after[name] - plain[name]) for name in plain
            }
    return found


def _explanations(findings: Findings) -> dict[str, dict[str, tuple[float, dict[str, float]]]]:
    """By measure, and by variant, its value and its baselines."""
    found: dict[str, dict[str, tuple[float, dict[str, float]]]] = {}
    for label, measurement in findings.measurements.items():
        for name, value, baselines in rows(measurement.explanation or {}):
            found.setdefault(name, {})[label] = value, baselines
    return found


def _disagreements(findings: Findings) -> list[dict[str, Any]]:
    """Each query with the answers of the two variants that rank it best and worst."""
    by_query: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for label, measurement in findings.measurements.items():
        for found in measurement.disagreements:
            by_query.setdefault((found["direction"], found["query"]), {})[label] = found
    result = []
    for (direction, query), answers in by_query.items():
        ranks = {label: found["ranks"][label] for label, found in answers.items()}
        if len(ranks) < 2:
            continue
        ordered = sorted(ranks, key=lambda label: ranks[label])
        result.append(
            {
                "direction": direction,
                "query": query,
                "ranks": {label: ranks[label] for label in ordered},
                "shown": [(label, answers[label]["top"]) for label in (ordered[0], ordered[-1])],
            }
        )
    return result


def _thumbnail(image_of: ImageOf, image_id: int) -> str | None:
    """The image as a data URI of a small JPEG; None where it cannot be shown."""
    try:
        image = image_of(image_id)
        if image is None:
            return None
        small = as_image(image).copy()
    except InputError:
        return None
    small.thumbnail((_SIDE, _SIDE))
    return data_uri(small, "jpeg", quality=78)
