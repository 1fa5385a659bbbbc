"""What the measures of explanations are, and their table and picture.

Their values come as a dictionary. ``pointing`` is a measure, ``pointing_random`` the same of a
baseline, ``pointing/shape`` and ``pointing_random/shape`` both for one class of words; without a
class it is the mean over the classes. ``images`` is the number of images, ``words/shape`` that of
the words of a class, and ``pairs/deletion`` that of the pairs over which a measure is the mean.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

GALLERY = 100  # texts, of one image each, among which the true one is ranked
LARGEST = 0.5  # share of the image; larger objects can hardly be missed
_TIES = "in one random order for all heads"
_FLAT = (
    "Pairs are left out whose score at 1 is not above that at 0; the table counts those that stay"
)


class Measure(NamedTuple):
    """What a number means: its definition, and the baselines that it is to be compared with."""

    definition: str
    baselines: tuple[str, ...] = ()


MEASURES = {
    "pointing": Measure(
        "share of words whose map is largest at a place with its centre in a box of what the word "
        "names; of tied places, the share inside. Boxes of more than half the image are left out. "
        "random: a random place; centre: the image's centre; best: the best map on these places",
        ("random", "centre", "best"),
    ),
    "mass": Measure(
        "share of the map's positive part inside those boxes, each place's value spread over its "
        "area. area: the boxes' share of the image",
        ("area",),
    ),
    "deletion": Measure(
        "area under the pair's score while its first pixels by the map become the mean colour, a "
        f"20th at a time, equal values {_TIES}; the score on a scale from the empty image (0) to "
        f"the whole (1), clipped to these. {_FLAT}. Low is good. random: cells in random order; "
        "centre: from the centre outwards",
        ("random", "centre"),
    ),
    "deletion_rank": Measure(
        f"area under the share of the other texts, of {GALLERY} in all, that the true one "
        "outranks over the same steps; of every pair. Low is good",
        ("random", "centre"),
    ),
    "insertion": Measure(
        "area under the pair's score while the first pixels come back into the blurred image "
        "(Gaussian, 11 pixels, σ 5), equal values likewise; from the blurred image (0) to the "
        f"whole (1), clipped to these. {_FLAT}. High is good",
        ("random", "centre"),
    ),
    "insertion_rank": Measure(
        "area under the share of the other texts that the true one outranks over the same steps; "
        "of every pair. High is good",
        ("random", "centre"),
    ),
    "words_deletion": Measure(
        "area under the pair's score while the first words by the map are hidden (unknown, "
        f"or masked), one at a time, equal values {_TIES}; from none left (0) to all (1), clipped "
        f"to these. {_FLAT}. Low is good",
        ("random",),
    ),
    "other_word": Measure(
        "Spearman's correlation of the maps of two words of one text. Near 1: the map does not "
        "depend on the word"
    ),
    "shuffled_weights": Measure(
        "Spearman's correlation of a word's map with its map after the weights of head, "
        "projections and poolings have been shuffled. Near 1: it does not depend on them"
    ),
}


def rows(measured: Mapping[str, float]) -> list[tuple[str, float, dict[str, float]]]:
    """Name, value and baselines of each measure and class of words, in the order of the table."""
    found = []
    for measure, (_, baselines) in MEASURES.items():
        suffixes = sorted(key.removeprefix(measure) for key in measured if key.startswith(measure))
        for suffix in [s for s in suffixes if not s or s.startswith("/")]:
            beside = {name: f"{measure}_{name}{suffix}" for name in baselines}
            found.append(
                (
                    f"{measure}{suffix}",
                    measured[f"{measure}{suffix}"],
                    {name: measured[key] for name, key in beside.items() if key in measured},
                )
            )
    return found


def table(measured: Mapping[str, float]) -> str:
    """The measures, each beside its baselines."""
    lines = [f"explanations of {measured['images']:.0f} pairs"]
    for name, value, beside in rows(measured):
        word_class = name.partition("/")[2]
        unit, key = ("words", word_class) if word_class else ("pairs", name)
        count = measured.get(f"{unit}/{key}")
        of = "" if count is None else f"{count:.0f} {unit}"
        others = " · ".join(f"{baseline} {number:.3f}" for baseline, number in beside.items())
        lines.append(f"  {name:24}{value:6.3f}  {of:>10}  {others}".rstrip())
    return "\n".join(lines)


def definitions(measured: Mapping[str, Mapping[str, float]]) -> str:
    """What the measures that any of these heads has mean."""
    lines = []
    for measure, (definition, _) in MEASURES.items():
        if any(measure in values for values in measured.values()):
            lines += textwrap.wrap(f"{measure}: {definition}.", width=88, subsequent_indent="  ")
    return "\n".join(lines)


def picture(measured: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Of each head, a bar for each measure, and a mark for each of its baselines."""
    from matplotlib.figure import Figure

    each = {label: {row[0]: row for row in rows(values)} for label, values in measured.items()}
    names = list(dict.fromkeys(name for found in each.values() for name in found))
    size = 2.5 + 3.5 * len(each), 1 + 0.26 * len(names)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1, len(each), sharey=True, squeeze=False)
    for axes, (label, found) in zip(grid[0], each.items(), strict=True):
        at = [(names.index(name), value) for name, (_, value, _) in found.items()]
        axes.barh(*zip(*at, strict=True), color="#4c78a8", height=0.7)
        for mark, baseline in (("o", "random"), ("s", "centre"), ("D", "area"), ("|", "best")):
            marks = [
                (row[2][baseline], names.index(name))
                for name, row in found.items()
                if baseline in row[2]
            ]
            if marks:
                axes.plot(*zip(*marks, strict=True), mark, label=baseline, color="#e45756")
        axes.set_title(label.replace("$", r"\$"))  # no formula
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)
    grid[0][0].set_yticks(range(len(names)), names)
    grid[0][0].invert_yaxis()
    if handles_and_labels := grid[0][0].get_legend_handles_labels():
        figure.legend(*handles_and_labels, loc="outside lower center", ncols=4, title="baselines")
    figure.savefig(path, dpi=120)
