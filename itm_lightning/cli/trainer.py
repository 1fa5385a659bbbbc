"""The Trainer, with ``extract`` as a further command, and its strategies."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.strategies import ModelParallelStrategy, StrategyRegistry

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.cli.processes import started_by_others
from itm_lightning.data.source import SPLITS
from itm_lightning.errors import InputError, Range
from itm_lightning.extract import extract
from itm_lightning.utils.internals import ends_its_processes, shard_over_all


def name_fsdp2() -> None:
    """Makes ``--trainer.strategy ModelParallelStrategy`` known to Lightning."""
    name = ModelParallelStrategy.__name__.lower()  # as Lightning looks names up
    if name not in StrategyRegistry:
        StrategyRegistry.register(name, ModelParallelStrategy)


_RANGES = {
    "accumulate_grad_batches": Range(1),
    "check_val_every_n_epoch": Range(1),
    "gradient_clip_val": Range(0),
    "num_nodes": Range(1),
    "val_check_interval": Range(0, is_open=True),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Checks numbers with which Lightning would fail in the midst of a run, or without a word.

    Args:
        settings: ``trainer`` of the config.

    Raises:
        InputError: one is out of range.
    """
    for name, allowed in _RANGES.items():
        value = settings.get(name)
        if isinstance(value, int | float) and value not in allowed:
            raise InputError(f"trainer.{name} is {value}; it must be {allowed.what_to_be(value)}")


@contextmanager
def refused_settings() -> Iterator[None]:
    """Within it, Lightning makes the trainer.

    Raises:
        InputError: Lightning refuses the settings, by a ``ValueError``.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def needs_lines(settings: Mapping[str, Any]) -> bool:
    """Whether the output goes into a log, and the user neither chose a bar nor wants none."""
    callbacks = settings["callbacks"]  # a list, a single one, or None
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    own = any(isinstance(callback, ProgressBar) for callback in callbacks)
    return not (sys.stdout.isatty() or own or settings["enable_progress_bar"] is False)


def configure_strategy(trainer: pl.Trainer) -> None:
    """Sets what the user left open of a strategy, before it starts anything.

    ``ModelParallelStrategy`` becomes FSDP2 over all processes, with checkpoints of one file. By its
    own defaults it would split layers over the GPUs of a node, which needs a plan for each network,
    and write folders, which no other strategy reads.

    Raises:
        InputError: the strategy's processes end before the command does.
    """
    strategy = trainer.strategy
    if ends_its_processes(strategy):
        raise InputError(
            f"{type(strategy).__name__} with spawned or forked processes ends them with each of "
            "fit, validate and test, and what they measured is lost: set trainer.strategy: ddp"
        )
    if isinstance(strategy, ModelParallelStrategy):
        shard_over_all(strategy, trainer.world_size)


def why_unscored(trainer: pl.Trainer) -> str:
    """Why a fit has ended without a checkpoint that is the best, to be scored."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return "trainer.fast_dev_run only tries whether all runs"
    if trainer.checkpoint_callback is None:
        return "trainer.enable_checkpointing is off, and the best checkpoint is what is scored"
    if not trainer.enable_validation:
        return "trainer.limit_val_batches is 0, so that nothing was validated"
    return (
        f"training ended at step {trainer.global_step}, "
        "before its first validation (trainer.max_steps, max_time, check_val_every_n_epoch)"
    )


class ITMTrainer(Trainer):
    """Lightning's Trainer, with ``lightning extract``.

    Where its own help says what does not hold here, ``--help`` says this:

    Args:
        default_root_dir: the folder of runs, in which each has a folder of its own. Default: runs.
        logger: loggers beside ``metrics.csv``, such as WandbLogger; ``false`` leaves out all, that
            file too.
        log_every_n_steps: the steps between two points of a curve. Default: 50, and fewer where a
            run is short, so that its curves have up to 50 points.
        enable_checkpointing: write ``best.ckpt`` and ``last.ckpt``. Without them a run can't be
            resumed, and a fit is not scored at its end.
        enable_progress_bar: show a bar on a terminal; a log gets a line an epoch instead.
        enable_model_summary: print the parts of the model and their parameters before a fit.
        float32_matmul_precision: of float32 products: with high, GPUs take TF32; with medium,
            bfloat16, and so do CPUs that multiply it, where they compare tokens. Default: highest.
    """

    def __init__(
        self,
        *args: Any,
        float32_matmul_precision: Literal["highest", "high", "medium"] | None = None,
        **kwargs: Any,
    ) -> None:
        if float32_matmul_precision is not None:
            torch.set_float32_matmul_precision(float32_matmul_precision)
        super().__init__(*args, **kwargs)

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
        """Run the image encoder over all images once, and write its tokens for Precomputed.

        Started again after it was stopped, it continues where it stopped.

        Args:
            model: has the image encoder.
            datamodule: has the source.
            output: the folder to write into.
            splits: their names, separated by commas; by default all that the source has.
            dtype: precision of the tokens that are written.
            batch_size: images per step.
            num_workers: processes that decode images; by default ``data.num_workers``.
        """
        others = started_by_others()
        if others is not None and others.per_node * others.nodes > 1:
            raise InputError(f"extract is for one process; {others.launcher} starts several")
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
    """The splits that were named, or all that the source has."""
    if named is None:
        return [split for split in SPLITS if datamodule.has_split(split)]
    unknown = [name for name in named if name not in SPLITS]
    if unknown:
        raise InputError(f"--splits names {unknown[0]!r}; there are {', '.join(SPLITS)}")
    return [split for split in SPLITS if split in named]
