"""Private names of Lightning and torch that the package cannot do without, each with its reason.

A new release may rename or remove them. Every function here reads them through :func:`_private`,
which then says in one line which release to install. No other file may use a private name.

Tried on pytorch-lightning 2.5.5 and 2.6.6, and on torch 2.14.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.nn.parallel import DistributedDataParallel

from itm_lightning.errors import InputError

NEWEST_TRIED = {"pytorch-lightning": "2.6.6", "torch": "2.14.1"}


def _private(owner: Any, name: str, package: str = "pytorch-lightning") -> Any:
    """``owner.name``.

    Raises:
        InputError: this release of the package does not have it.
    """
    if hasattr(owner, name):
        return getattr(owner, name)
    where = owner.__name__ if hasattr(owner, "__name__") else type(owner).__name__
    newest = NEWEST_TRIED[package]
    raise InputError(
        f"itm-lightning needs {where}.{name} of {package}, which the installed release does not "
        f"have; {newest} does: pip install '{package}<={newest}'"
    )


def between_steps(trainer: Any) -> bool:
    """Whether a run can be stopped and resumed exactly after the batch that has just ended.

    It cannot while gradients accumulate, nor where a validation or the end of the epoch follows:
    then it can after the next batch, or before the next epoch. Lightning decides what follows a
    batch from eight settings and their history, and tells nobody.
    """
    fit_loop = trainer.fit_loop
    epoch_loop = fit_loop.epoch_loop
    return not (
        _private(epoch_loop, "_should_accumulate")()
        or _private(epoch_loop, "_is_training_done")
        or _private(epoch_loop, "_should_check_val_fx")(_private(fit_loop, "_data_fetcher"))
    )


def rebuild_buckets(model: DistributedDataParallel) -> None:
    """Lets DDP order its buckets by the gradients that have just been computed.

    It does so before the second step, and not again. A run that is resumed would otherwise take
    its first step with other buckets than the uninterrupted run, and sum in another order.
    """
    _private(model.reducer, "_rebuild_buckets", "torch")()


def samples_are_distributed(trainer: Any) -> bool:
    """Whether ``trainer.use_distributed_sampler`` is on; the Trainer does not keep its argument."""
    connector = _private(trainer, "_accelerator_connector")
    return bool(connector.use_distributed_sampler)


def batch_norm_is_synchronised(strategy: Any) -> bool:
    """Whether ``trainer.sync_batchnorm`` is on; ``strategy`` is one of several processes."""
    return _private(strategy, "_layer_sync") is not None


def ends_its_processes(strategy: Any) -> bool:
    """Whether the strategy's processes end with each of fit, validate and test, as spawned ones.

    The start method is private too, and all that the launchers have in public is the same.
    """
    from pytorch_lightning.strategies import launchers

    return isinstance(strategy.launcher, _private(launchers, "_MultiProcessingLauncher"))


def shard_sizes(strategy: Any) -> tuple[int | str, int | str]:
    """``data_parallel_size`` and ``tensor_parallel_size`` of a ``ModelParallelStrategy``.

    In public they can be read only once all processes have started.
    """
    return _private(strategy, "_data_parallel_size"), _private(strategy, "_tensor_parallel_size")


def shard_over_all(strategy: Any, processes: int) -> None:
    """Sets what was left open of a ``ModelParallelStrategy``: no tensor parallelism, one file.

    Its constructor takes these, but the command line makes the strategy before the number of
    processes is known.
    """
    data, tensor = shard_sizes(strategy)
    strategy._data_parallel_size = processes if data == "auto" else data
    strategy._tensor_parallel_size = 1 if tensor == "auto" else tensor
    _private(strategy, "_save_distributed_checkpoint")
    strategy._save_distributed_checkpoint = False


def bind_wrapped_call(graph: fx.GraphModule) -> None:
    """Prevents a sharded graph's call from calling itself without end.

    torchvision's networks replace their graph when they change between training and evaluation,
    and torch.fx then makes a call for the class that the graph has by then: the one that FSDP2 has
    derived from the graph's own class.
    """
    cls: Any = type(graph)
    cls._wrapped_call = _private(graph, "_wrapped_call", "torch")


def shared_storage(size: int) -> torch.UntypedStorage:
    """Memory of ``size`` bytes that other processes can read, without a copy of its contents.

    ``default_collate`` takes the same; ``share_memory_`` in public copies.
    """
    return _private(torch.UntypedStorage, "_new_shared", "torch")(size)
