"""Collectives through which the gradient flows back, of tensors and of rows.

Every function is a collective, in the backward pass too. The gradient is that of the **sum** over
all processes of the tensors from which each of them calls ``backward``. torch goes through a graph
from its newest node to its oldest, so processes that call these functions in the same order also
call their backward passes in the same order.
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
    """The sum of a tensor over all processes, on which it has the same shape."""
    return tensor if processes.size == 1 else _Sum.apply(tensor, processes)


def all_gather(rows: Tensor, counts: Sequence[int], processes: Processes) -> Tensor:
    """The rows of all processes, ``(Σ counts, …)``, sorted by process.

    Args:
        rows: ``(counts[rank], …)``; only the number of rows may differ between processes.
        counts: how many each process has.
        processes: those that call this together.
    """
    return _Gather.apply(_flat(rows), counts, processes).view(-1, *rows.shape[1:])


def all_to_all(
    rows: Tensor, sent: Sequence[int], received: Sequence[int], processes: Processes
) -> Tensor:
    """Sends to each process its own rows.

    Args:
        rows: ``(Σ sent, …)``, sorted by the process that they go to.
        sent: how many go to each.
        received: how many come from each.
        processes: those that call this together.

    Returns:
        ``(Σ received, …)``, sorted by the process that they come from.
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
        return processes.all_gather(rows, counts).to(rows.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The sum of all processes' gradients of these rows: each used a copy of them."""
        processes, mine = ctx.processes, ctx.counts[ctx.processes.rank]
        arrived = processes.all_to_all(gradients[0], ctx.counts, [mine] * processes.size)
        summed_up = arrived.view(processes.size, mine, -1).sum(dim=0)
        return summed_up.to(gradients[0].device), None, None


class _Exchange(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sent: Sequence[int], received: Sequence[int], processes: Processes
    ) -> Tensor:
        ctx.sent, ctx.received, ctx.processes = sent, received, processes
        return processes.all_to_all(rows, sent, received).to(rows.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        back = ctx.processes.all_to_all(gradients[0], ctx.received, ctx.sent)
        return back.to(gradients[0].device), None, None, None


def pad_to_max(rows: RowsT, processes: Processes) -> tuple[RowsT, list[int]]:
    """Pads with zeros what is shorter than on another process, such as tokens; a collective.

    Args:
        rows: of any number; their tensors have as many dimensions on every process.
        processes: those that call this together.

    Returns:
        The padded rows, of which only the number differs between processes; and how many rows each
        process has.
    """
    shapes = [tensor.shape[1:] for tensor in rows.tensors()]
    sizes = torch.tensor([[len(rows), *itertools.chain(*shapes)]])
    everyones = processes.gather(sizes)
    assert everyones is not None  # only where no process has rows
    largest = iter(everyones[:, 1:].amax(dim=0).tolist())
    padded = rows.padded([list(itertools.islice(largest, len(shape))) for shape in shapes])
    return padded, everyones[:, 0].tolist()


def all_gather_rows(rows: RowsT, counts: Sequence[int], processes: Processes) -> RowsT:
    """The rows of all processes, padded by :func:`pad_to_max` before, sorted by process."""
    return rows.map(lambda tensor: all_gather(tensor, counts, processes))


def round_the_ring(
    rows: RowsT, counts: Sequence[int], processes: Processes
) -> Iterator[tuple[int, RowsT]]:
    """The rows of every process in turn, its own first, each with the process that they are of.

    At each step a process sends the rows that it has to the next one, and receives those of the one
    before.

    Args:
        rows: of this process, padded by :func:`pad_to_max`.
        counts: how many each process has.
        processes: those that call this together.
    """
    rank, size = processes.rank, processes.size
    for step in range(size):
        owner = (rank - step) % size
        yield owner, rows
        if step + 1 < size:
            sent, received = [0] * size, [0] * size
            sent[(rank + 1) % size] = counts[owner]
            received[(rank - 1) % size] = counts[(owner - 1) % size]
            send_on = partial(all_to_all, sent=sent, received=received, processes=processes)
            rows = rows.map(send_on)
