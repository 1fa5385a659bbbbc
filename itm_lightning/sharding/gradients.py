"""Gradients, optimiser groups and checkpoints of a module of which a part is sharded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

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


def separate(optimizer: Optimizer) -> None:
    """Gives shards and whole parameters groups of their own, with the same settings.

    Optimisers step through all tensors of a group at once, which fails where they are of both
    kinds. To be called before the first step and before a scheduler is made.
    """
    optimizer.param_groups[:] = [
        {**group, "params": parameters}
        for group in optimizer.param_groups
        for parameters in _by_kind(group["params"])
        if parameters
    ]


def _by_kind(parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    shards: list[nn.Parameter] = [p for p in parameters if isinstance(p, DTensor)]
    return shards, [p for p in parameters if not isinstance(p, DTensor)]


ProcessGroup = dict[str, Any]
State = dict[str, Any]


def rejoined(state: State) -> State:
    """An optimiser's state dict as if :func:`~itm_lightning.sharding.separate` had not been.

    Args:
        state: parameters by number; left as it is where it is empty, as on all processes but the
            first, or has them by name, as in a folder of shards.
    """
    groups: list[ProcessGroup] = []
    for group in state.get("param_groups", []):
        if not all(isinstance(number, int) for number in group["params"]):
            return state
        if groups and _settings(groups[-1]) == _settings(group):
            groups[-1]["params"] = sorted([*groups[-1]["params"], *group["params"]])
        else:
            groups.append(dict(group))
    return {**state, "param_groups": groups} if groups else state


def renumbered(state: State, optimizer: Optimizer, module: nn.Module) -> State:
    """An optimiser's state dict with parameters numbered as the module's are, the frozen included.

    An optimiser does not care about the numbers; where shards go on from it, they must be these.
    """
    places = {id(parameter): place for place, parameter in enumerate(module.parameters())}
    numbers = [places[id(p)] for group in optimizer.param_groups for p in group["params"]]
    groups = [{**g, "params": [numbers[n] for n in g["params"]]} for g in state["param_groups"]]
    values = {numbers[number]: value for number, value in state["state"].items()}
    return {**state, "state": values, "param_groups": groups}


def laid_out(state: State) -> State:
    """A state dict whose tensors lie in the order of their indices.

    torch hands a tensor's memory to the other processes as it is: a convolution's with channels
    last would arrive in disorder.
    """

    def in_order(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: in_order(item) for name, item in value.items()}
        return value.contiguous() if isinstance(value, Tensor) else value

    return in_order(state)


def _settings(group: ProcessGroup) -> ProcessGroup:
    return {name: value for name, value in group.items() if name != "params"}
