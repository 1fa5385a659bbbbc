"""How pictures look: small axes, and one colour, marker and line a variant in all of them."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#fefefe"
#: Told apart by colour-blind readers (after Okabe and Ito 2008, https://jfly.uni-koeln.de/color/),
#: darkened to a contrast of 3 with white.
COLOURS = ("#0b6bb0", "#cf5500", "#00856a", "#b23a8e", "#a87900", "#3a9bd1", "#5a4bb5")
#: What the page calls each colour: it gives them other values in the dark.
CSS_NAMES = {
    **{INK: "ink", QUIET: "quiet", GRID: "grid", PAPER: "paper"},
    **{colour: f"variant-{i}" for i, colour in enumerate(COLOURS)},
}
#: Markers by matplotlib's name, and as characters for the page's text.
MARKERS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖"}
_LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_WIDTH, _HEIGHT = 5.0, 3.5  # inches; text of 9.5 points can be read on a phone and on a screen
_STYLE: Any = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.labelcolor": QUIET,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.usetex": False,
    "svg.fonttype": "none",  # text stays text: the page's font, to be searched and copied
    "svg.hashsalt": "itm",  # the same picture twice is the same file
}


def look(index: int) -> dict[str, Any]:
    """Colour, marker and line of the variant with this index; 21 of them differ."""
    turn = index // len(COLOURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": list(MARKERS)[(index + turn) % len(MARKERS)],
        "linestyle": _LINES[turn % len(_LINES)],
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.7,
    }


def new_axes(rows: int = 0) -> Axes:
    """Axes alone in a figure of their own, made taller where they have many rows."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        height = max(_HEIGHT, 0.9 + 0.27 * rows)
        axes: Axes = Figure(figsize=(_WIDTH, height), layout="constrained").subplots()
    return axes


def add_legend(axes: Axes, labels: Mapping[int, str]) -> None:
    """A legend below the axes, in as many columns as there is room for; none of one label.

    Args:
        axes: those of :func:`new_axes`.
        labels: by the variant's index.
    """
    from matplotlib.lines import Line2D

    if len(labels) < 2:
        return
    figure: Any = axes.figure
    columns = max(1, min(3, 64 // (max(map(len, labels.values())) + 6)))
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(labels) // columns))
    handles = [Line2D([], [], **look(i)) for i in labels]
    figure.legend(
        handles,
        [*map(as_text, labels.values())],
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def as_text(label: str) -> str:
    """A label in which matplotlib sees no formula: between two ``$`` it would."""
    return label.replace("$", r"\$")


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    line: Sequence[tuple[float, float]],
) -> None:
    """Writes each label beside its point, on the side on which it hides least.

    Args:
        axes: with all that is drawn in them.
        points: where they are.
        labels: of one or several lines.
        line: corners of a line that is not to be hidden, either.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # the axes' limits and place are known only then
    at = axes.transData.transform(points)
    frame, per_point = axes.get_window_extent(), figure.dpi / 72
    corners = axes.transData.transform(line)
    along = np.concatenate([np.linspace(*pair, 50) for pair in itertools.pairwise(corners)] or [at])
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    taken += [(x - 1, y - 1, x + 1, y + 1) for x, y in along]
    sides = [(x, y, gap) for gap in (7, 16) for y in (0, 1, -1) for x in (1, -1, 0) if x or y]
    for (x, y), point, label in sorted(
        zip(at.tolist(), points, labels, strict=True), key=lambda item: -item[0][1]
    ):
        rows = label.split("\n")
        width = 5.3 * per_point * max(map(len, rows))
        height = 11 * per_point * len(rows)

        boxes = []
        for right, up, gap in sides:
            far = gap * per_point / (1.4 if right and up else 1)  # from a corner it looks farther
            left = x + right * far - width * (1 - right) / 2
            bottom = y + up * far - height * (1 - up) / 2
            boxes.append((left, bottom, left + width, bottom + height))
        inside = [_overlap(box, (frame.x0, frame.y0, frame.x1, frame.y1)) for box in boxes]
        hidden = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = boxes[int(np.argmin(np.subtract(hidden, inside)))]  # the nearest of equals
        taken.append(best)
        middle = (best[0] + best[2]) / 2, (best[1] + best[3]) / 2
        axes.annotate(
            label,
            point,
            ((middle[0] - x) / per_point, (middle[1] - y) / per_point),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=INK,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element for a page: its colours are the page's variables.

    Args:
        figure: drawn with the colours of this module.
        name: read aloud in place of the picture; plain text, without markup.
    """
    import matplotlib

    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="[^"]+"', svg)
    assert view is not None  # matplotlib writes it
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r'<g id="[^"]*">', "<g>", body)  # ids are unique in a page
    for colour, css_name in CSS_NAMES.items():
        body = body.replace(colour, f"var(--{css_name})")
    return f'<svg {view[0]} role="img" aria-label="{name}">{body}'


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG on white, in twice a screen's resolution."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format="png", dpi=200, facecolor="white")
    return file.getvalue()
