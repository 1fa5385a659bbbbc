"""Which parts of a trunk become shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from torch import distributed as dist
from torch import fx, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from itm_lightning.distributed import world_size
from itm_lightning.encoders.base import Encoder
from itm_lightning.utils.internals import bind_wrapped_call


def shard_trunks(module: nn.Module, strategy: Strategy) -> bool:
    """Shards the trunks of a module's encoders if the strategy is ``ModelParallelStrategy``.

    A trunk's parameters are read only when the trunk is called, as FSDP2 requires. Nothing happens
    under any other strategy, nor to a module that is sharded already.

    Returns:
        Whether the module is sharded.
    """
    if isinstance(strategy, ModelParallelStrategy):
        mesh = strategy.device_mesh["data_parallel"]
        shard(module, trunks(module), mesh, strategy.root_device)
    return is_sharded(module)


def trunks(module: nn.Module) -> list[nn.Module]:
    """The trunks of all encoders among the modules."""
    return [part.network for part in module.modules() if isinstance(part, Encoder)]


def shard(
    module: nn.Module, networks: Iterable[nn.Module], mesh: DeviceMesh, device: torch.device
) -> None:
    """Shards networks block by block, after all processes have taken the first one's weights.

    A module that is sharded already does not change. Frozen parameters are sharded too, and remain
    frozen.

    Args:
        module: the module that holds the networks.
        networks: those to shard, as far as they are :func:`shardable`. Their parameters must
            be read only through calls of the network, so that FSDP2's hooks run.
        mesh: the processes, in one dimension, each with its own part of the data.
        device: this process's device.
    """
    if is_sharded(module):
        return
    _broadcast_weights(module, device)
    for trunk in filter(shardable, networks):
        for parameter in trunk.parameters():  # FSDP2 shards contiguous parameters only
            parameter.data = parameter.data.contiguous()
        for unit in (*blocks(trunk), trunk):
            # Resharded after each forward, so that code outside of a call always finds shards.
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)
            if isinstance(unit, fx.GraphModule):
                bind_wrapped_call(unit)


def shardable(trunk: nn.Module) -> bool:
    """Whether there is something to shard.

    Recurrent networks are not sharded: they are small, and cuDNN needs their weights in one piece.
    """
    return _has_parameters(trunk) and not any(isinstance(m, nn.RNNBase) for m in trunk.modules())


def blocks(trunk: nn.Module) -> Iterator[nn.Module]:
    """The layers or stages of a trunk: the modules in its outermost ``nn.ModuleList``s."""
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


@torch.no_grad()
def _broadcast_weights(module: nn.Module, device: torch.device) -> None:
    """Gives all processes the first one's weights: each may have drawn its own at random."""
    if world_size() == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        values = tensor.detach().to(device)  # a process group sends tensors of its own device only
        dist.broadcast(values, src=0)
        tensor.copy_(values)
