"""Evaluation and training on 1, 2 and 4 processes: time, and bytes that arrive at each.

    python experiments/benchmarks/distributed.py

Processes of this machine, of one thread each, talk by gloo: with fewer cores than processes time
says little, bytes say the same as on a cluster. A training step is head and objective, forward and
backward, on features that are there; encoders need nothing of each other. *Formula* is what
``scaling.py`` estimates many GPUs by; its table follows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from made_up import LONGEST, made_up
from received_bytes import ReceivedBytes
from rich.console import Console
from rich.table import Table
from scaling import Gallery, Gpu, Step, estimate
from torch import distributed as dist
from torch import multiprocessing as mp

from itm_lightning import registry
from itm_lightning.distributed import all_processes, rank, world_size
from itm_lightning.encoders.base import Token
from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.objectives import Comparison, InfoNCE, LocalComparison
from itm_lightning.objectives.distributed_comparison import DistributedComparison
from itm_lightning.similarity.base import Similarity, TokenSimilarity
from itm_lightning.types import Batch, EncodedBatch, Features

_HEADS = ("Cosine", "CrossAttention")
_TEXTS = 5  # a photo
_COCO = {
    "Cosine, COCO 5K": Gallery(5_000, 25_000, 0, 0, 1024),
    "SCAN, COCO 5K": Gallery(5_000, 25_000, 36, 13, 1024),
}
_STEPS = {
    "Cosine, step of 128 a GPU": Step(128, 0, 0, 1024, 30e6),
    "SCAN, step of 128 a GPU": Step(128, 36, 13, 1024, 30e6),
}


@dataclass(frozen=True)
class Measured:
    """A process's ``seconds``, the median of some repeats, and ``received`` bytes of one."""

    seconds: float
    received: float


def main() -> None:
    """Prints both tables."""
    arguments = _arguments()
    table = Table(title=_title(arguments))
    headers = ("", "processes", "seconds", "of one", "MB received", "formula")
    for header in headers:
        table.add_column(header, justify="right" if header else "left")
    found = {n: _on_processes(n, arguments) for n in arguments.processes}
    for name in found[arguments.processes[0]]:
        for n, measured in found.items():
            _add_row(table, arguments, name, n, measured[name], found)
    gpu = Gpu(arguments.tflops * 1e12, arguments.gigabytes * 1e9)
    Console(width=110).print(table, estimate(_COCO, _STEPS, gpu))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--images", type=int, default=256, help="ranked; five captions each")
    parser.add_argument("--batch", type=int, default=128, help="pairs, of all processes together")
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tflops", type=float, default=40.0, help="that a GPU reaches")
    parser.add_argument("--gigabytes", type=float, default=40.0, help="a second, to a GPU")
    return parser.parse_args()


def _title(arguments: argparse.Namespace) -> str:
    ranked = f"{arguments.images} photos x {_TEXTS * arguments.images} captions ranked"
    return f"{ranked}, {arguments.batch} pairs trained on, {arguments.dim} wide"


def _add_row(
    table: Table,
    arguments: argparse.Namespace,
    name: str,
    processes: int,
    measured: Measured,
    found: dict[int, dict[str, Measured]],
) -> None:
    one = min(found)
    share = f"{measured.seconds / found[one][name].seconds:.2f}"
    formula = _formula(arguments, name, processes)
    megabytes = (f"{value / 1e6:.1f}" for value in (measured.received, formula))
    table.add_row(name, str(processes), f"{measured.seconds:.3f}", share, *megabytes)


def _formula(arguments: argparse.Namespace, name: str, processes: int) -> float:
    head, _, what = name.partition(", ")
    tokens = _reads_tokens(_head(head))
    regions, words = (arguments.regions, LONGEST) if tokens else (0, 0)
    if what == "ranks":
        texts = _TEXTS * arguments.images
        gallery = Gallery(arguments.images, texts, regions, words, arguments.dim)
        return gallery.received(processes)
    pairs = arguments.batch // processes
    return Step(pairs, regions, words, arguments.dim, 0).received(processes)


def _on_processes(processes: int, arguments: argparse.Namespace) -> dict[str, Measured]:
    """What the first of so many processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        # forked: nothing was computed yet, and each would import for seconds
        how = {"nprocs": processes, "start_method": "fork"}
        mp.start_processes(_work, args=(processes, arguments, folder), **how)
        found = torch.load(Path(folder) / "0.pt", weights_only=False)
    return {name: Measured(*values) for name, values in found.items()}


def _work(process: int, processes: int, arguments: argparse.Namespace, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=process, world_size=processes
    )
    found = {}
    for name in _HEADS:
        head = _head(name)
        for what, run in (("ranks", _ranking(head, arguments)), ("step", _step(head, arguments))):
            found[f"{name}, {what}"] = _measured(run, arguments.repeats)
    if process == 0:
        torch.save(found, Path(folder) / "0.pt")
    dist.destroy_process_group()


def _measured(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    seconds, counted = [], ReceivedBytes()
    for turn in range(repeats + 1):  # the first warms up, and counts
        dist.barrier()
        start = time.perf_counter()
        with nullcontext() if turn else counted:
            run()
        dist.barrier()
        if turn:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), counted.total


def _head(name: str) -> Similarity:
    return registry.get("similarity", name)()


def _reads_tokens(head: Similarity) -> bool:
    return isinstance(head, TokenSimilarity)


def _ranking(head: Similarity, arguments: argparse.Namespace) -> Callable[[], Any]:
    """Ranks a gallery of which each process saw a share, as a distributed sampler deals it."""
    images, texts, image_ids, owner = _gallery(arguments)
    n_images = torch.arange(rank(), len(images), world_size())
    n_texts = torch.isin(owner, n_images).nonzero()[:, 0]
    seen = images[n_images], texts[n_texts], image_ids[n_images], owner[n_texts], n_texts

    def run() -> None:
        metric = BidirectionalRecall(head)
        metric.update(*seen)
        metric.compute()

    return run


def _gallery(
    arguments: argparse.Namespace,
) -> tuple[Features, Features, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)  # the same on every process
    n_images = arguments.images
    images, texts = made_up(n_images, _TEXTS * n_images, arguments.regions, arguments.dim)
    ids = torch.arange(n_images)
    return images, texts, ids, ids.repeat_interleave(_TEXTS)


def _step(head: Similarity, arguments: argparse.Namespace) -> Callable[[], Any]:
    """Head and objective of this process's share of a batch, forward and backward."""
    torch.manual_seed(rank())
    pairs = arguments.batch // world_size()
    sides = [head.select(side) for side in made_up(pairs, pairs, arguments.regions, arguments.dim)]
    ids, labels = rank() * pairs + torch.arange(pairs), torch.zeros(pairs, 0, dtype=torch.bool)
    batch = Batch(sides[0], [""] * pairs, ids, ids, ids, labels)
    objective = InfoNCE()

    def run() -> None:
        images, texts = (_leaf(side) for side in sides)
        encoded = EncodedBatch(batch, images, texts, None, None, _no_tokens, _no_words)
        if world_size() == 1:
            comparison: Comparison = LocalComparison(head, encoded)
        else:
            comparison = DistributedComparison(head, encoded, all_processes())
        objective.loss(comparison).backward()

    return run


def _no_words(texts: list[str]) -> list[list[Token]]:
    raise NotImplementedError


def _no_tokens(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    raise NotImplementedError  # InfoNCE reads none


def _leaf(side: Features) -> Features:
    values = (side.tokens, side.pooled)
    tokens, pooled = (None if v is None else v.detach().requires_grad_() for v in values)
    return Features(tokens, side.mask, pooled)


if __name__ == "__main__":
    main()
