"""What evaluation and training take on many GPUs, from counted bytes and operations.

An estimate, and no measurement: operations at the rate that a GPU is taken to reach, then bytes at
the rate of its link, one after the other, nothing overlapping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from itm_lightning.ranking.blocks import even_share

GPUS = (8, 16, 32, 64, 128, 256)
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Gallery:
    """Sizes of what is ranked.

    Attributes:
        images: how many.
        texts: how many.
        regions: tokens a photo; 0 for one vector.
        words: tokens a caption; 0 for one vector.
        dim: width of each.
    """

    images: int
    texts: int
    regions: int
    words: int
    dim: int

    def operations(self, processes: int) -> float:
        """Of the busiest process's products of its photos with all captions.

        An addition and a multiplication each; with tokens, those with the photos' Gram matrices
        too.
        """
        pairs = self.images * self.texts * self._largest_share(processes)
        if not self.regions:
            return 2 * pairs * self.dim
        return 2 * pairs * self.regions * self.words * (self.dim + self.regions)

    def received(self, processes: int) -> float:
        """Bytes that arrive at the busiest: its photos and their captions, then all captions."""
        image, text = (max(1, n) * self.dim * _FLOAT for n in (self.regions, self.words))
        own = (self.images * image + self.texts * text) * self._largest_share(processes)
        return (own + self.texts * text) * (1 - 1 / processes)

    def _largest_share(self, processes: int) -> float:
        """Of the photos, which the ranking engine deals out in units."""
        units = math.ceil(self.images / even_share(self.images, self.regions))
        return math.ceil(units / processes) / units


@dataclass(frozen=True)
class Step:
    """Sizes of a training step.

    Attributes:
        pairs: of each process.
        regions: tokens a photo; 0 for one vector.
        words: tokens a caption; 0 for one vector.
        dim: width of each.
        parameters: those whose gradients are averaged.
    """

    pairs: int
    regions: int
    words: int
    dim: int
    parameters: float

    def operations(self, processes: int) -> float:
        """Of each process's products of its photos with everybody's captions, and back."""
        texts = self.pairs * processes
        batch = Gallery(self.pairs, texts, self.regions, self.words, self.dim)
        return 3 * batch.operations(1)

    def received(self, processes: int) -> float:
        """Bytes a process: captions and their gradients, scores and theirs, and parameters'."""
        text = max(1, self.words) * self.dim * _FLOAT
        scores = self.pairs * self.pairs * _FLOAT
        others = processes - 1
        features = 2 * self.pairs * others * (text + scores / self.pairs)
        return features + 2 * (1 - 1 / processes) * self.parameters * _FLOAT


@dataclass(frozen=True)
class Gpu:
    """What a GPU is taken to reach.

    Attributes:
        operations: a second.
        received: bytes a second, from the others.
    """

    operations: float
    received: float

    def seconds(self, operations: float, received: float) -> tuple[float, float]:
        """For its operations, and for what arrives."""
        return operations / self.operations, received / self.received


def estimate(galleries: dict[str, Gallery], steps: dict[str, Step], gpu: Gpu) -> Table:
    """The table of estimates: seconds computing and receiving, by number of GPUs."""
    title = (
        f"estimated, not measured: seconds at {gpu.operations / 1e12:g} TFLOP/s and "
        f"{gpu.received / 1e9:g} GB/s a GPU"
    )
    table = Table(title=title)
    for header in ("GPUs", *galleries, *steps):
        table.add_column(header, justify="right")
    for n in GPUS:
        parts = [gpu.seconds(g.operations(n), g.received(n)) for g in galleries.values()]
        parts += [gpu.seconds(s.operations(n), s.received(n)) for s in steps.values()]
        table.add_row(str(n), *(f"{computing:.3g} + {moving:.2g}" for computing, moving in parts))
    return table
