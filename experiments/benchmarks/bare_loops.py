"""What any loader has to do at least, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Each = Callable[[Callable[[Any], None], Iterable[Any]], None]


@contextmanager
def processes(workers: int) -> Iterator[Each]:
    """What does something with each of several items, in so many processes; 0: in this one."""
    if workers == 0:
        yield lambda work, items: _exhaust(map(work, items))
        return
    with get_context("fork").Pool(workers) as pool:
        yield lambda work, items: _exhaust(pool.imap_unordered(work, items))


def _exhaust(results: Iterable[None]) -> None:
    for _ in results:
        pass


def decode_and_resize(size: int, paths: Iterable[Path]) -> None:
    """JPEG files, each to a square."""
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)


def read_rows(path: Path, rows: NDArray[np.int64]) -> None:
    """Rows of a ``.npy`` file, copied out of the memory map."""
    _mapped(path)[rows]


@functools.cache
def _mapped(path: Path) -> Any:
    return np.load(path, mmap_mode="r")
