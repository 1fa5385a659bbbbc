"""Which parts of a trunk become shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import distributed as dist
from torch import fx, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from itm_lightning.distributed import world_size


def shard(
    module: nn.Module, trunks: Iterable[nn.Module], mesh: DeviceMesh, device: torch.device
) -> None:
    """Shards trunks block by block, after all processes have taken the first one's weights.

    A module that is sharded already stays as it is. Frozen parameters are sharded too, and stay
    frozen.

    Args:
        module: what they are parts of.
        trunks: those to shard, where :func:`shardable`; they must only ever be called, so that
            FSDP2's hooks run.
        mesh: the processes, in one dimension: they share the data.
        device: this process's.
    """
    if is_sharded(module):
        return
    _take_the_first_ones(module, device)
    for trunk in filter(shardable, trunks):
        for parameter in trunk.parameters():  # FSDP2 cuts no other layout
            parameter.data = parameter.data.contiguous()
        for unit in (*blocks(trunk), trunk):
            # after each forward, so that parameters are shards whenever somebody looks at them
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)
            if isinstance(unit, fx.GraphModule):
                _keep_its_call(unit)


def shardable(trunk: nn.Module) -> bool:
    """Whether there is something to shard.

    Recurrent networks stay whole: they are small, and cuDNN wants their weights in one piece.
    """
    return _has_parameters(trunk) and not any(isinstance(m, nn.RNNBase) for m in trunk.modules())


def blocks(trunk: nn.Module) -> Iterator[nn.Module]:
    """The layers or stages of a trunk: what its outermost lists of modules hold."""
    for child in trunk.children():
        if isinstance(child, nn.ModuleList):
            yield from filter(_has_parameters, child.children())
        else:
            yield from blocks(child)


def is_sharded(module: nn.Module) -> bool:
    """Whether any of it is sharded."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _keep_its_call(graph: fx.GraphModule) -> None:
    """Keeps a graph from calling itself without end.

    torchvision's switch to another graph in evaluation, of which torch.fx makes a call for the
    class the graph has by then: the one that FSDP2 has put above its own.
    """
    cls: Any = type(graph)
    cls._wrapped_call = graph._wrapped_call


@torch.no_grad()
def _take_the_first_ones(module: nn.Module, device: torch.device) -> None:
    """Each process may have drawn random weights of its own."""
    if world_size() == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        values = tensor.detach().to(device)  # a process group moves only what lies there
        dist.broadcast(values, src=0)
        tensor.copy_(values)
