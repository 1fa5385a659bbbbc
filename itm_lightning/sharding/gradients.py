"""Gradients of a module of which a part is sharded, and a part whole on each process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from itm_lightning.distributed import world_size
from itm_lightning.sharding.trunks import is_sharded


@torch.no_grad()
def synchronise(module: nn.Module) -> None:
    """Averages over the processes the gradients that FSDP2 does not average; a collective.

    Buffers become the first process's, as in ddp: the statistics of batch normalisation would
    drift apart. Nothing happens to a module that is not sharded.
    """
    if world_size() == 1 or not is_sharded(module):
        return
    whole, _ = _apart(module.parameters())
    for tensors in _by_dtype(whole):
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        _copy_back(flat / world_size(), tensors)
    for tensors in _by_dtype(b for b in module.buffers() if b.is_floating_point()):
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.broadcast(flat, src=0)
        _copy_back(flat, tensors)


@torch.no_grad()
def clip_norm(parameters: Iterable[nn.Parameter], most: float) -> None:
    """:func:`torch.nn.utils.clip_grad_norm_`, which refuses shards beside whole parameters.

    A collective.
    """
    whole, shards = _apart(parameters)
    if not whole and not shards:
        return
    device = (*whole, *shards)[0].device
    square = _squared_norm(shards, device)
    if world_size() > 1:
        dist.all_reduce(square)
    norm = (square + _squared_norm(whole, device)).sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1)  # as torch has it
    for gradient in (*whole, *shards):
        gradient.mul_(factor)


@torch.no_grad()
def clip_value(parameters: Iterable[nn.Parameter], most: float) -> None:
    """:func:`torch.nn.utils.clip_grad_value_`, which refuses shards beside whole parameters."""
    whole, shards = _apart(parameters)
    for gradient in (*whole, *shards):
        gradient.clamp_(-most, most)


def _apart(parameters: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients there are: of whole parameters, and this process's part of the shards'."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    return whole, [g.to_local() for g in gradients if isinstance(g, DTensor)]


def _squared_norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    squares = [tensor.float().square().sum() for tensor in tensors]
    return sum(squares, torch.zeros((), device=device))


def _by_dtype(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    yield from groups.values()


def _copy_back(flat: Tensor, tensors: list[Tensor]) -> None:
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
