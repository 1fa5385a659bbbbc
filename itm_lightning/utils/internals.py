"""Private names of Lightning and torch that the package cannot do without, each with its reason.

A new release may rename or remove them. Every function here reads them through :func:`_private`,
which then says in one line which release to install. No other file may use a private name.

Tried on pytorch-lightning 2.5.5 and 2.6.6, and on torch 2.14.1.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

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


def ends_within_epoch(trainer: Any) -> bool:
    """Whether training ends after the batch that has just ended, before its epoch does.

    ``max_steps`` and ``max_time`` end it so.
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    accumulates = _private(epoch_loop, "_should_accumulate")()
    return epoch_loop.done and not trainer.is_last_batch and not accumulates


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


def processor_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16; others take longer with them."""
    return bool(_private(torch.cpu, "_is_avx512_bf16_supported", "torch")())


def shared_storage(size: int) -> torch.UntypedStorage:
    """Memory of ``size`` bytes that other processes can read, without a copy of its contents.

    ``default_collate`` takes the same; ``share_memory_`` in public copies.
    """
    return _private(torch.UntypedStorage, "_new_shared", "torch")(size)


class PeakMemory(TorchDispatchMode):
    """Within it, counts the memory of the tensors that operations make, on any device.

    The system's own counters tell memory apart neither from what was freed before nor from other
    threads, and torch's profiler prints lines of its own.

    Attributes:
        peak: the most bytes that they held at once; what there was before does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._hold((args, kwargs), made_here=False)
        result = func(*args, **(kwargs or {}))
        self._hold(result, made_here=True)
        self.peak = max(self.peak, self._held)
        return result

    def _hold(self, values: Any, made_here: bool) -> None:
        for tensor in (v for v in tree_leaves(values) if isinstance(v, torch.Tensor)):
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes() if made_here else 0
            if key not in self._known:
                self._held += size
                self._known[key] = weakref.ref(storage, self._free(key, size))

    def _free(self, key: int, size: int) -> Callable[[Any], None]:
        def free(_: Any) -> None:
            del self._known[key]
            self._held -= size

        return free


def tensor_builders() -> dict[str, Callable[..., Any]]:
    """The functions that the pickle of a tensor or parameter names, by these names.

    A reader that allows them alone is narrower than torch's ``weights_only``, and reads files that
    hold other things, too, which ``weights_only`` refuses.
    """
    utils = _private(torch, "_utils", "torch")
    names = "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"
    return {f"torch._utils.{name}": _private(utils, name, "torch") for name in names}
