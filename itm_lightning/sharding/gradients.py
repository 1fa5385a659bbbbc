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

Group = dict[str, Any]
State = dict[str, Any]


@torch.no_grad()
def synchronise(module: nn.Module) -> None:
    """Averages over the processes the gradients that FSDP2 does not average; a collective.

    Buffers become those of the first process, as in ddp: otherwise the statistics of batch
    normalisation would differ between processes. Nothing happens to a module that is not sharded.
    """
    if world_size() == 1 or not is_sharded(module):
        return
    whole, _ = _whole_and_local(module.parameters())
    for tensors in _by_dtype(whole):
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        _copy_back(flat / world_size(), tensors)
    for tensors in _by_dtype(b for b in module.buffers() if b.is_floating_point()):
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.broadcast(flat, src=0)
        _copy_back(flat, tensors)


def clip_gradients(
    module: nn.Module, optimizer: Optimizer, limit: float | None, algorithm: str | None
) -> bool:
    """Clips the gradients of a sharded module; a collective.

    torch's own functions refuse sharded parameters together with whole ones.

    Args:
        module: the module that is trained.
        optimizer: the optimiser of the parameters to clip.
        limit: the largest norm or absolute value; ``None`` or 0 for no clipping.
        algorithm: ``"value"``, or else the norm of all gradients is limited.

    Returns:
        Whether it did: False where nothing is sharded or there is no limit.
    """
    if not limit or not is_sharded(module):
        return False
    clip = clip_value if algorithm == "value" else clip_norm
    clip([p for group in optimizer.param_groups for p in group["params"]], limit)
    return True


@torch.no_grad()
def clip_norm(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """:func:`torch.nn.utils.clip_grad_norm_` for sharded and whole parameters; a collective."""
    whole, local = _whole_and_local(parameters)
    if not whole and not local:
        return
    device = (*whole, *local)[0].device
    square = _squared_norm(local, device)
    if world_size() > 1:
        dist.all_reduce(square)
    norm = (square + _squared_norm(whole, device)).sqrt()
    factor = (limit / (norm + 1e-6)).clamp(max=1)  # torch's epsilon
    for gradient in (*whole, *local):
        gradient.mul_(factor)


@torch.no_grad()
def clip_value(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """:func:`torch.nn.utils.clip_grad_value_` for sharded and whole parameters."""
    whole, local = _whole_and_local(parameters)
    for gradient in (*whole, *local):
        gradient.clamp_(-limit, limit)


def separate(optimizer: Optimizer) -> None:
    """Gives sharded and whole parameters groups of their own, with the same settings.

    Optimisers step through all tensors of a group at once, which fails where a group has both
    kinds. To be called before the first step and before a scheduler is made.
    """
    optimizer.param_groups[:] = [
        {**group, "params": parameters}
        for group in optimizer.param_groups
        for parameters in _sharded_and_whole(group["params"])
        if parameters
    ]


def checkpoint_layout(
    module: nn.Module, checkpoint: dict[str, Any], optimizers: Sequence[Optimizer]
) -> None:
    """Changes a checkpoint, in place, so that runs with and without sharding can resume from it.

    Args:
        module: the module that is trained.
        checkpoint: its checkpoint, about to be saved.
        optimizers: the trainer's optimisers, in the order of ``checkpoint["optimizer_states"]``.
    """
    if "state_dict" in checkpoint:
        checkpoint["state_dict"].update(_contiguous(checkpoint["state_dict"]))
    states = checkpoint.get("optimizer_states", [])
    for index, state in enumerate(states):
        if not state:  # of a fit without an optimiser
            continue
        if is_sharded(module):
            states[index] = _without_separate(state)
        else:
            states[index] = _renumbered(_contiguous(state), optimizers[index], module)


def _without_separate(state: State) -> State:
    """An optimiser's state dict with the groups that it had before :func:`separate`.

    Args:
        state: parameters by number. It is returned unchanged if it is empty, as on all processes
            but the first, or has parameters by name, as in a folder of shards.
    """
    groups: list[Group] = []
    for group in state.get("param_groups", []):
        if not all(isinstance(number, int) for number in group["params"]):
            return state
        if groups and _settings(groups[-1]) == _settings(group):
            groups[-1]["params"] = sorted([*groups[-1]["params"], *group["params"]])
        else:
            groups.append(dict(group))
    return {**state, "param_groups": groups} if groups else state


def _renumbered(state: State, optimizer: Optimizer, module: nn.Module) -> State:
    """An optimiser's state dict with parameters numbered as the module's are, the frozen included.

    An optimiser accepts any numbers, but a sharded run that resumes from them needs these.
    """
    positions = {id(parameter): index for index, parameter in enumerate(module.parameters())}
    numbers = [positions[id(p)] for group in optimizer.param_groups for p in group["params"]]
    groups = [{**g, "params": [numbers[n] for n in g["params"]]} for g in state["param_groups"]]
    values = {numbers[number]: value for number, value in state["state"].items()}
    return {**state, "state": values, "param_groups": groups}


def _contiguous(value: Any) -> Any:
    """The same nested dictionary with every tensor contiguous.

    torch sends a tensor's memory to the other processes in the order in which it is stored, so
    that a convolution's weights with channels last would arrive in disorder.
    """
    if isinstance(value, dict):
        return {name: _contiguous(item) for name, item in value.items()}
    return value.contiguous() if isinstance(value, Tensor) else value


def _settings(group: Group) -> Group:
    return {name: value for name, value in group.items() if name != "params"}


def _whole_and_local(parameters: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients there are: of whole parameters, and this process's part of sharded ones."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    return whole, [g.to_local() for g in gradients if isinstance(g, DTensor)]


def _sharded_and_whole(
    parameters: Sequence[nn.Parameter],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    sharded: list[nn.Parameter] = [p for p in parameters if isinstance(p, DTensor)]
    return sharded, [p for p in parameters if not isinstance(p, DTensor)]


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
