"""Every registered similarity, beside the matrix products it makes.

    python experiments/benchmarks/similarity.py --plot similarity.png

Scores one block of photos and captions. *Floor* is the share of the time that the head's own matrix
products would take alone; what it does once a side, and not once a pair, is part of the time.
``similarity_loops.py`` compares with the papers' loops.
"""

from __future__ import annotations

import argparse
import inspect
from functools import partial
from pathlib import Path

import torch
from made_up import made_up
from matrix_products import products_alone
from rich.console import Console
from rich.table import Table
from side_by_side import Seconds, in_turns, peak_megabytes
from torch import Tensor

from itm_lightning import registry, similarity
from itm_lightning.part import UsesLabels
from itm_lightning.types import Features


def main() -> None:
    """Prints the table, and plots it."""
    arguments = _arguments()
    torch.manual_seed(0)
    names = arguments.heads or registry.list_registered("similarity")
    _print_heads(arguments, {name: make_head(name, arguments.dim) for name in names})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", nargs="*", help="all by default")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="PNG")
    return parser.parse_args()


def make_head(name: str, dim: int) -> similarity.Similarity:
    """A head for features of this width, solved where it is one to be solved."""
    parts = {"dim": dim, "heads": [similarity.Cosine(), similarity.DotProduct()]}
    cls = registry.get("similarity", name)
    wanted = inspect.signature(cls).parameters
    head: similarity.Similarity = cls(**{k: v for k, v in parts.items() if k in wanted})
    head.build(dim, dim)
    if isinstance(head, UsesLabels):
        head.learn_classes("ab")
    if isinstance(head, similarity.ClosedForm):
        sides = (Features.from_pooled(torch.randn(2 * dim, dim)) for _ in range(2))
        labels = torch.arange(2 * dim)[:, None] % 2 == torch.arange(2)
        head.solve(head.observe(*sides, labels))
    return head


def _print_heads(arguments: argparse.Namespace, heads: dict[str, similarity.Similarity]) -> None:
    size = arguments.images, arguments.texts, arguments.regions, arguments.dim
    images, texts = made_up(*size)
    thousands = arguments.images * arguments.texts / 1000
    table = Table(title="{} photos x {} captions, {} regions, {} wide".format(*size))
    for column in ("head", "ms / 1,000 pairs", "floor", "with backward", "floor", "peak MB"):
        table.add_column(column, justify="left" if column == "head" else "right")
    measured: dict[str, tuple[Seconds, Seconds]] = {}
    for name, head in heads.items():
        times = beside_floors(head, images, texts, arguments.repeats, title=name)
        measured[name] = times["forward"], times["backward"]
        cells = [
            cell
            for way in ("forward", "backward")
            for cell in (
                f"{1000 * times[way].median / thousands:.2f}",
                f"{times[f'{way} floor'].median / times[way].median:.0%}",
            )
        ]
        peak = peak_megabytes(partial(_forward, head, images, texts))
        table.add_row(name, *cells, f"{peak:.0f}")
    Console(width=100).print(table)
    if arguments.plot:
        _plot(arguments.plot, measured, thousands)


def beside_floors(
    head: similarity.Similarity, images: Features, texts: Features, repeats: int, title: str
) -> dict[str, Seconds]:
    """Times of ``forward`` and ``backward`` (both ways), and of their products: ``… floor``."""
    forward = partial(_forward, head, images, texts)
    backward = partial(_backward, head, images, texts)
    floors = {
        "forward floor": products_alone(forward),
        "backward floor": products_alone(backward),
    }
    return in_turns({"forward": forward, "backward": backward} | floors, repeats, title)


@torch.no_grad()
def _forward(head: similarity.Similarity, images: Features, texts: Features) -> Tensor:
    return head.eval()(images, texts)


def _backward(head: similarity.Similarity, images: Features, texts: Features) -> None:
    sides = [side.detach() for side in (images, texts)]
    for side in sides:
        side.tokens.requires_grad_()
        side.pooled.requires_grad_()
    head.train()(*sides).sum().backward()


def _plot(path: Path, times: dict[str, tuple[Seconds, Seconds]], thousands: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ordered = sorted(times, key=lambda name: times[name][0].median)
    figure, axes = plt.subplots(figsize=(8, 0.35 * len(ordered) + 1.5), layout="constrained")
    for k, label in enumerate(("forward", "forward and backward")):
        values = [1000 * times[name][k].median / thousands for name in ordered]
        places = [i + 0.4 * k for i in range(len(ordered))]
        axes.barh(places, values, height=0.4, label=label)
    axes.set(xscale="log", xlabel="ms per 1,000 pairs")
    axes.set_yticks([i + 0.2 for i in range(len(ordered))], ordered)
    axes.legend()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
