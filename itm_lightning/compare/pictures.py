"""The pictures of a comparison, in the order of its report, and how to read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from itm_lightning.compare import figures
from itm_lightning.compare.drawing import to_png
from itm_lightning.compare.findings import Findings
from itm_lightning.utils.atomic_files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture of a comparison.

    Attributes:
        name: of its file.
        title: what it shows.
        caption: how to read it; shown below it.
        draw: gives its figure; None where the findings lack what it shows.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Findings], Figure | None]


_HUBS = "Hollow: as the head scores. Filled: corrected with a bank of the training split. "
PICTURES = (
    Picture(
        "quality_against_cost",
        "Quality against cost",
        "Up and to the left is better. The dashed line joins those than which none is both cheaper "
        "and better; bars are ± one standard deviation over seeds. Filled: the scores are inner "
        "products of vectors, which an index can search. Hollow: every pair must be scored.",
        figures.quality_against_cost,
    ),
    Picture(
        "seed_spread",
        "Every run",
        "A point a seed; the stroke is their mean.",
        figures.seed_spread,
    ),
    Picture(
        "recall_i2t",
        "Recall by K, image → text",
        "The share of images with one of their texts among the first K. The band is ± one standard "
        "deviation over seeds.",
        partial(figures.recall_curve, way="i2t"),
    ),
    Picture(
        "recall_t2i",
        "Recall by K, text → image",
        "The share of texts with their image among the first K.",
        partial(figures.recall_curve, way="t2i"),
    ),
    Picture(
        "by_length",
        "By the text's length",
        "Five groups of about as many texts, fewer where many texts are of one length.",
        figures.by_length,
    ),
    Picture(
        "by_word_class",
        "By the text's words",
        "Texts with at least one word of the class; a text can be in several classes. The classes' "
        "words are listed under Definitions.",
        figures.by_word_class,
    ),
    Picture(
        "learning_by_epoch",
        "Learning, by epoch",
        "Plain retrieval on val after each epoch: the mean over seeds, each seed a thin line.",
        partial(figures.learning_curve, unit="epochs"),
    ),
    Picture(
        "learning_by_minute",
        "Learning, by time",
        "The same over the time of training with its validation, every epoch taken to be as long.",
        partial(figures.learning_curve, unit="minutes"),
    ),
    Picture(
        "hubs_rsum",
        "Rsum with the hub correction",
        _HUBS + "A second column, not the scores above.",
        partial(figures.hubs, name="rsum"),
    ),
    Picture(
        "hubs_skewness",
        "Hubs before and after",
        _HUBS + "N₁₀ is how often an image is among the first ten; the more skewed, the more a few "
        "images are found for everything.",
        partial(figures.hubs, name="t2i_skewness"),
    ),
)


def drawn(findings: Findings) -> list[tuple[Picture, Figure | None]]:
    """Each picture with its figure; None where the findings lack what it shows."""
    import matplotlib

    # a matplotlibrc in the current folder, which may be a download, would have LaTeX read labels
    with matplotlib.rc_context({"text.usetex": False}):
        return [(picture, picture.draw(findings)) for picture in PICTURES]


def save_pictures(findings: Findings, folder: Path) -> None:
    """Writes each picture that can be drawn as ``<name>.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, figure in drawn(findings):
        if figure is not None:
            with replacing(folder / f"{picture.name}.png") as file:
                file.write(to_png(figure))
