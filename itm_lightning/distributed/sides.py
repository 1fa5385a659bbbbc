"""Rows of photos or captions that go from process to process, with gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.distributed.together import Processes
from itm_lightning.distributed.with_gradient import exchanged, gathered
from itm_lightning.types import Rows, RowsT


def alike(rows: RowsT, processes: Processes) -> tuple[RowsT, list[int]]:
    """Pads with zeros what is shorter than on another process (tokens); a collective.

    Args:
        rows: of any number; their tensors have as many dimensions on every process.
        processes: who they are.

    Returns:
        The rows, which differ in nothing but their number from any other process's; and how many
        each process has.
    """
    everyones = processes.gather(torch.tensor([_sizes(rows)]))
    assert everyones is not None  # only where nobody has rows
    largest = iter(everyones.amax(dim=0).tolist())
    return _each(rows, lambda tensor: _padded(tensor, largest)), everyones[:, 0].tolist()


def gather_side(rows: RowsT, counts: Sequence[int], processes: Processes) -> RowsT:
    """Everybody's rows, which are :func:`alike`; those of the first process first."""
    return _each(rows, lambda tensor: gathered(tensor, counts, processes))


def round_the_ring(
    rows: RowsT, counts: Sequence[int], processes: Processes
) -> Iterator[tuple[int, RowsT]]:
    """Every process's rows in turn, own ones first, and whose they are.

    Each process hands what it holds on to the next, and gets the rows of the one before.

    Args:
        rows: this process's, :func:`alike` everybody's.
        counts: how many each process has.
        processes: who they are.
    """
    rank, size = processes.rank, processes.size
    for step in range(size):
        owner = (rank - step) % size
        yield owner, rows
        if step + 1 < size:
            sent, received = [0] * size, [0] * size
            sent[(rank + 1) % size] = counts[owner]
            received[(rank - 1) % size] = counts[(owner - 1) % size]
            hand_on = partial(exchanged, sent=sent, received=received, processes=processes)
            rows = _each(rows, hand_on)


def _each(rows: RowsT, function: Callable[[Tensor], Tensor]) -> RowsT:
    """Rows of what the function makes of every tensor, those of rows within rows too."""
    return rows._map(lambda v: _each(v, function) if isinstance(v, Rows) else function(v))


def _sizes(rows: Rows) -> list[int]:
    """The shapes of all tensors, one after the other."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.extend(tensor.shape)
        return tensor

    _each(rows, note)
    return sizes


def _padded(tensor: Tensor, largest: Iterator[int]) -> Tensor:
    _, *wanted = (next(largest) for _ in tensor.shape)
    missing = [w - now for w, now in zip(wanted, tensor.shape[1:], strict=True)]
    return F.pad(tensor, [n for m in reversed(missing) for n in (0, m)]) if any(missing) else tensor
