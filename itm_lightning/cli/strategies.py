"""Strategies as the command line means them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.strategies import ModelParallelStrategy, StrategyRegistry
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from itm_lightning.errors import InputError


def name_fsdp2() -> None:
    """Makes ``--trainer.strategy ModelParallelStrategy`` a name that Lightning knows."""
    name = ModelParallelStrategy.__name__.lower()  # as Lightning looks names up
    if name not in StrategyRegistry:
        StrategyRegistry.register(name, ModelParallelStrategy)


@contextmanager
def refusals() -> Iterator[None]:
    """Within it, Lightning may refuse a trainer's settings.

    Raises:
        InputError: it did; it would be a ``ValueError``, which might be anything.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def settle(trainer: pl.Trainer) -> None:
    """Fills in what was left open of a strategy, before it starts anything.

    ``ModelParallelStrategy`` is FSDP2 over all processes here, and writes checkpoints of one file.
    Left to itself it would split layers over the GPUs of a node, which needs a plan for each
    network, and write folders, which no other strategy reads.

    Raises:
        InputError: the strategy's processes do not outlast a command's parts.
    """
    strategy = trainer.strategy
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise InputError(
            f"{type(strategy).__name__} by {strategy.launcher._start_method} ends its processes "
            "with each of fit, validate and test, and what they measured is lost: set "
            "trainer.strategy: ddp"
        )
    if isinstance(strategy, ModelParallelStrategy):
        strategy._save_distributed_checkpoint = False
        if strategy._tensor_parallel_size == "auto":
            strategy._tensor_parallel_size = 1
        if strategy._data_parallel_size == "auto":
            strategy._data_parallel_size = trainer.world_size
