"""What processes hand each other, with the gradient on its way back.

Every function is a collective, in the backward pass too. The gradient that comes back is that of
the **sum** over all processes of what each of them goes backward from. torch works through a graph
from its newest node to its oldest, so that processes which call these in one order meet in one.

Rows of photos or captions that go from process to process, with gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from itm_lightning.distributed.group import Processes
from itm_lightning.types import RowsT


def all_reduce_sum(tensor: Tensor, processes: Processes) -> Tensor:
    """The sum of everybody's tensor, which has one shape everywhere."""
    return tensor if processes.size == 1 else _Sum.apply(tensor, processes)


def all_gather(rows: Tensor, counts: Sequence[int], processes: Processes) -> Tensor:
    """Everybody's rows ``(Σ counts, …)``, those of the first process first.

    Args:
        rows: ``(counts[rank], …)``; only the number of rows may differ between processes.
        counts: how many each process has.
        processes: who they are.
    """
    return _Gather.apply(_flat(rows), counts, processes).view(-1, *rows.shape[1:])


def all_to_all(
    rows: Tensor, sent: Sequence[int], received: Sequence[int], processes: Processes
) -> Tensor:
    """Hands each process rows of its own: ``(Σ received, …)``, those of the first process first.

    Args:
        rows: ``(Σ sent, …)``, those for the first process first.
        sent: how many go to each.
        received: how many come from each.
        processes: who they are.
    """
    arrived = _Exchange.apply(_flat(rows), sent, received, processes)
    return arrived.view(-1, *rows.shape[1:])


def _flat(rows: Tensor) -> Tensor:
    return rows.flatten(1) if rows.ndim > 1 else rows.unsqueeze(1)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.processes.sum(gradients[0]), None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Sequence[int], processes: Processes) -> Tensor:
        ctx.counts, ctx.processes = counts, processes
        return processes.share(rows, counts).to(rows.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Everybody's gradient of these rows, summed: each process used a copy of them."""
        processes, mine = ctx.processes, ctx.counts[ctx.processes.rank]
        arrived = processes.exchange(gradients[0], ctx.counts, [mine] * processes.size)
        summed_up = arrived.view(processes.size, mine, -1).sum(dim=0)
        return summed_up.to(gradients[0].device), None, None


class _Exchange(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sent: Sequence[int], received: Sequence[int], processes: Processes
    ) -> Tensor:
        ctx.sent, ctx.received, ctx.processes = sent, received, processes
        return processes.exchange(rows, sent, received).to(rows.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        back = ctx.processes.exchange(gradients[0], ctx.received, ctx.sent)
        return back.to(gradients[0].device), None, None, None


def pad_to_max(rows: RowsT, processes: Processes) -> tuple[RowsT, list[int]]:
    """Pads with zeros what is shorter than on another process (tokens); a collective.

    Args:
        rows: of any number; their tensors have as many dimensions on every process.
        processes: who they are.

    Returns:
        The rows, which differ in nothing but their number from any other process's; and how many
        each process has.
    """
    shapes = [tensor.shape[1:] for tensor in rows.tensors()]
    sizes = torch.tensor([[len(rows), *itertools.chain(*shapes)]])
    everyones = processes.gather(sizes)
    assert everyones is not None  # only where no process has rows
    largest = iter(everyones[:, 1:].amax(dim=0).tolist())
    padded = rows.padded([list(itertools.islice(largest, len(shape))) for shape in shapes])
    return padded, everyones[:, 0].tolist()


def all_gather_rows(rows: RowsT, counts: Sequence[int], processes: Processes) -> RowsT:
    """Everybody's rows, padded by :func:`pad_to_max`; those of the first process first."""
    return rows.map(lambda tensor: all_gather(tensor, counts, processes))


def round_the_ring(
    rows: RowsT, counts: Sequence[int], processes: Processes
) -> Iterator[tuple[int, RowsT]]:
    """Every process's rows in turn, own ones first, and whose they are.

    Each process hands what it holds on to the next, and gets the rows of the one before.

    Args:
        rows: of this process, padded by :func:`pad_to_max`.
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
            hand_on = partial(all_to_all, sent=sent, received=received, processes=processes)
            rows = rows.map(hand_on)
