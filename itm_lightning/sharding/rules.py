"""What cannot be combined with sharding: each rule gives the reason and the mend, or None."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from itm_lightning.evaluating import RetrievalModule
from itm_lightning.sharding.trunks import shardable, trunks
from itm_lightning.utils.internals import shard_sizes

_PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


def other_engines(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """FSDP1 and DeepSpeed gather weights when the whole is called; our step calls its parts."""
    if not isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
        return None
    return (
        f"{type(trainer.strategy).__name__} gathers weights when the whole model is called, but a "
        "training step calls its parts: set trainer.strategy: ModelParallelStrategy (FSDP2)"
    )


def tensor_parallel(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """Splitting layers needs a plan for each network; sharding them does not."""
    strategy, processes = trainer.strategy, trainer.world_size
    if not isinstance(strategy, ModelParallelStrategy):
        return None
    if shard_sizes(strategy) == (processes, 1):
        return None
    return (
        "under ModelParallelStrategy encoders are sharded over all processes, and no layer is "
        f"split: set data_parallel_size: {processes} and tensor_parallel_size: 1"
    )


def nothing_to_shard(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """A sharded checkpoint must hold a shard."""
    if not is_sharding(trainer) or any(map(shardable, trunks(model))):
        return None
    return (
        "ModelParallelStrategy has nothing to shard: recurrent networks stay whole, and regions "
        "need no trunk; set trainer.strategy: ddp"
    )


def precision(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """Loss scaling cannot read shards, and Lightning has no float64 for them."""
    if not is_sharding(trainer) or trainer.precision in _PRECISIONS:
        return None
    return (
        f"ModelParallelStrategy does not train in {trainer.precision}: set trainer.precision: "
        "bf16-mixed, bf16-true or 32-true"
    )


def compiled(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """A compiled trunk would be compiled again around each gathering of weights."""
    if not is_sharding(trainer) or not model.compiles:
        return None
    return (
        "ModelParallelStrategy gathers weights in the middle of what model.compile would compile "
        "as a whole: set model.compile: false, or trainer.strategy: ddp"
    )


def prediction(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """Lightning predicts an unequal number of batches a process; gathering weights needs all."""
    if not is_sharding(trainer) or trainer.world_size == 1 or trainer.state.fn != "predict":
        return None
    return (
        "processes that predict have different numbers of batches, and with ModelParallelStrategy "
        "would wait for each other: set trainer.devices: 1, or trainer.strategy: ddp"
    )


def is_sharding(trainer: pl.Trainer) -> bool:
    """Whether the trainer shards."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


RULES = other_engines, tensor_parallel, nothing_to_shard, precision, compiled, prediction
