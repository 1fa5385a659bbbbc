"""Counts what arrives at a process from the others, in every collective of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

_c10d = torch.ops.c10d


class ReceivedBytes(TorchDispatchMode):
    """Counts, while it is entered, the bytes that this process receives.

    An all-reduce counts as what a ring moves, ``2 (W - 1) / W`` of the tensor for ``W`` processes;
    what a process hands itself counts nothing.

    Attributes:
        total: bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "c10d" and (count := _COUNTS.get(func.overloadpacket)):
            self.total += count(args)
        return func(*args, **(kwargs or {}))


def _of_others() -> float:
    return (dist.get_world_size() - 1) / dist.get_world_size()


def _all_reduce(args: Sequence[Any]) -> float:
    return 2 * _of_others() * _bytes(args[0])


def _gather(args: Sequence[Any]) -> float:
    return _of_others() * _bytes(args[0])


def _all_to_all(args: Sequence[Any]) -> float:
    received, counts = args[0], args[3]
    rows = max(1, len(received))
    own = counts[dist.get_rank()] if counts else rows / dist.get_world_size()
    return _bytes(received) * (1 - own / rows)


def _broadcast(args: Sequence[Any]) -> float:
    return 0.0 if args[2] == dist.get_rank() else _bytes(args[0])


_COUNTS = {
    _c10d.allreduce_: _all_reduce,
    _c10d.allgather_: _gather,
    _c10d._allgather_base_: lambda args: _of_others() * _bytes(args[0]),
    _c10d.alltoall_base_: _all_to_all,
    _c10d.broadcast_: _broadcast,
    _c10d.recv_: lambda args: _bytes(args[0]),
}


def _bytes(value: Any) -> float:
    return float(sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
