"""Our cross attention and SGRAF beside loops that go caption by caption, as the papers' code does.

    python experiments/benchmarks/similarity_loops.py

*Product* is the one product that SCAN cannot avoid, all regions with all real words; for SGRAF, the
products that our head makes, and for the cosine all photos with all captions, for which there is
no loop. The loops are our own, and the tests' reference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from made_up import made_up
from matrix_products import images_by_texts, products_alone, regions_by_words
from rich.console import Console
from rich.table import Table
from side_by_side import Seconds, in_turns, peak_megabytes
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.reference

from itm_lightning import registry
from itm_lightning.objectives import InfoNCE
from itm_lightning.ranking import rank
from itm_lightning.similarity import Cosine, CrossAttention
from itm_lightning.types import Features
from tests.reference.scan_loop import scan_scores
from tests.reference.sgraf_loop import made_up_state, saf_scores, sgr_scores

_SIM_DIM = 256
_HEADERS = ("", "photos x captions", "ours, s", "loop / ours", "ours / product", "peak MB")


def main() -> None:
    """Prints the table."""
    arguments = _arguments()
    torch.manual_seed(0)
    table = Table(title=f"beside loops over captions, {arguments.regions} regions")
    for header in _HEADERS:
        table.add_column(header, justify="right" if header else "left")
    for direction in ("t2i", "i2t"):
        _add_evaluation(table, arguments, direction)
        _add_training_step(table, arguments, direction)
    for name, loop in (("SGR", sgr_scores), ("SAF", saf_scores)):
        _add_sgraf(table, arguments, name, loop)
    _add_cosine(table, arguments)
    Console(width=110).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500, help="with five captions each")
    parser.add_argument("--batch", type=int, default=128, help="of the training step")
    parser.add_argument("--sgraf_images", type=int, default=50, help="SGRAF is far slower")
    parser.add_argument("--cosine_images", type=int, default=5000, help="as in COCO 5K")
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _add_evaluation(table: Table, arguments: argparse.Namespace, direction: str) -> None:
    n_images = arguments.images
    images, texts = made_up(n_images, 5 * n_images, arguments.regions, arguments.dim)
    ids = torch.arange(n_images)
    head = _scan(direction)
    ours = partial(rank, head, images, texts, ids, ids.repeat_interleave(5), progress=False)
    loop = torch.no_grad()(partial(_scan_loop, direction, images, texts))
    runs = {"ours": ours, "loop": loop, "product": partial(regions_by_words, images, texts)}
    times = in_turns(runs, arguments.repeats, title=f"SCAN {direction}")
    _add_row(table, f"SCAN {direction}, ranks", n_images, 5 * n_images, times, peak_megabytes(ours))


def _add_training_step(table: Table, arguments: argparse.Namespace, direction: str) -> None:
    batch = arguments.batch
    images, texts = made_up(batch, batch, arguments.regions, arguments.dim)
    head = _scan(direction)
    runs = {
        "ours": lambda: _step(head, images, texts),
        "loop": lambda: _step(partial(_scan_loop, direction), images, texts),
        "product": lambda: [regions_by_words(images, texts) for _ in range(3)],  # and two backward
    }
    times = in_turns(runs, arguments.repeats, title=f"SCAN {direction}, training")
    peak = peak_megabytes(runs["ours"])
    _add_row(table, f"SCAN {direction}, training step", batch, batch, times, peak)


def _add_sgraf(
    table: Table, arguments: argparse.Namespace, name: str, loop: Callable[..., Tensor]
) -> None:
    n_images, dim = arguments.sgraf_images, arguments.dim
    images, texts = made_up(n_images, n_images, arguments.regions, dim)
    state = made_up_state(name, dim, _SIM_DIM, arguments.regions, dtype=torch.float32)
    head = registry.get("similarity", name)(dim=dim, sim_dim=_SIM_DIM).eval()
    ours = torch.no_grad()(partial(head, images, texts))
    runs = {
        "ours": ours,
        "loop": torch.no_grad()(partial(loop, images.tokens, *_words(texts), state)),
        "product": products_alone(ours),
    }
    times = in_turns(runs, arguments.repeats, title=name)
    _add_row(table, f"{name} (own products)", n_images, n_images, times, peak_megabytes(ours))


def _add_cosine(table: Table, arguments: argparse.Namespace) -> None:
    images = arguments.cosine_images
    sides = [torch.randn(count, arguments.dim) for count in (images, 5 * images)]
    features, ids = map(Features.from_pooled, sides), torch.arange(images)
    owners = ids.repeat_interleave(5)
    ours = partial(rank, Cosine(), *features, ids, owners, progress=False)
    runs = {"ours": ours, "product": partial(images_by_texts, *sides)}
    times = in_turns(runs, arguments.repeats, title="Cosine")
    _add_row(table, "Cosine, ranks", images, 5 * images, times, peak_megabytes(ours))


def _add_row(
    table: Table, name: str, images: int, texts: int, times: dict[str, Seconds], peak: float
) -> None:
    ours = times["ours"]
    spread = f"{ours.median:.2f} ({ours.low:.2f}-{ours.high:.2f})"
    loop = f"{(times['loop'] / ours).median:.3g}" if "loop" in times else "-"
    product = f"{(ours / times['product']).median:.3g}"
    table.add_row(name, f"{images} x {texts}", spread, loop, product, f"{peak:.0f}")


def _scan(direction: str) -> CrossAttention:
    return CrossAttention(direction, temperature=9.0, lse_temperature=6.0)


def _scan_loop(direction: str, images: Features, texts: Features) -> Tensor:
    return scan_scores(images.tokens, *_words(texts), direction)


def _words(texts: Features) -> tuple[Tensor, Tensor]:
    return texts.tokens, texts.mask.sum(dim=1)


def _step(head: Callable[[Features, Features], Tensor], images: Features, texts: Features) -> None:
    leaves = [side.tokens.detach().requires_grad_() for side in (images, texts)]
    sides = [
        Features(leaf, side.mask, None) for leaf, side in zip(leaves, (images, texts), strict=True)
    ]
    InfoNCE()(head(*sides)).backward()


if __name__ == "__main__":
    main()
