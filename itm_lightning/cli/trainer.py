"""Strategies as the command line means them.

The Trainer whose methods are the subcommands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import ModelParallelStrategy, StrategyRegistry
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.cli.processes import started_by_others
from itm_lightning.errors import InputError
from itm_lightning.extract import extract


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


def configure_strategy(trainer: pl.Trainer) -> None:
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


_SPLITS = ("train", "val", "test")


class ITMTrainer(Trainer):
    """Lightning's Trainer, with ``lightning extract``."""

    def extract(
        self,
        model: Matcher,
        datamodule: ITMDataModule,
        output: str,
        splits: str | None = None,
        dtype: Literal["float16", "float32"] = "float16",
        batch_size: int = 16,
        num_workers: int | None = None,
    ) -> None:
        """Run the image encoder over the photos once, and write its tokens for Precomputed.

        Started again after it was stopped, it goes on where it was.

        Args:
            model: whose image encoder.
            datamodule: whose source.
            output: the folder to write into.
            splits: which, by commas; all that the source has where not given.
            dtype: precision of what is written.
            batch_size: photos a step.
            num_workers: processes that decode photos; ``data.num_workers`` where not given.
        """
        others = started_by_others()
        if others is not None and others.per_node * others.nodes > 1:
            raise InputError(f"extract is for one process; {others.starter} starts several")
        named = [name.strip() for name in splits.split(",")] if splits else None
        extracted = extract(
            model.image_encoder.to(self.strategy.root_device),
            datamodule.source,
            datamodule.records,
            _splits(named, datamodule),
            Path(output),
            dtype,
            batch_size,
            datamodule.num_workers if num_workers is None else num_workers,
        )
        print(f"wrote {output}" if extracted else f"{output} is complete: nothing to do")


def _splits(named: list[str] | None, datamodule: ITMDataModule) -> list[str]:
    """The splits that were named, or else all that the source has."""
    if named is None:
        return [split for split in _SPLITS if datamodule.has_split(split)]
    unknown = [name for name in named if name not in _SPLITS]
    if unknown:
        raise InputError(f"--splits names {unknown[0]!r}; there are {', '.join(_SPLITS)}")
    return [split for split in _SPLITS if split in named]
