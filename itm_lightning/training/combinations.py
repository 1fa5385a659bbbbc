"""What does not combine, and why: each rule is a function that tells the reason, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytorch_lightning as pl
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)
from torch.nn.modules.batchnorm import _BatchNorm

from itm_lightning.encoders import RegionFeatures
from itm_lightning.errors import InputError
from itm_lightning.sharding import shardable, trunks
from itm_lightning.similarity.sgraf.base import Sgraf

if TYPE_CHECKING:
    from itm_lightning.matcher import Matcher

Rule: TypeAlias = "Callable[[pl.Trainer, Matcher], str | None]"

_SHARDED_PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


def check_combinations(trainer: pl.Trainer, matcher: Matcher) -> None:
    """Checks that trainer and model get along, before anything starts.

    Raises:
        InputError: they do not; the message says why, and what to set instead.
    """
    for rule in RULES:
        if reason := rule(trainer, matcher):
            raise InputError(reason)


def other_engines(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """FSDP1 and DeepSpeed gather weights when the whole is called; our step calls its parts."""
    if not isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
        return None
    return (
        f"{type(trainer.strategy).__name__} gathers weights when the whole model is called, but a "
        "training step calls its parts: set trainer.strategy: ModelParallelStrategy (FSDP2)"
    )


def tensor_parallel(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """To split layers needs a plan for each network; to shard them does not."""
    strategy, processes = trainer.strategy, trainer.world_size
    if not isinstance(strategy, ModelParallelStrategy):
        return None
    if (strategy._data_parallel_size, strategy._tensor_parallel_size) == (processes, 1):
        return None
    return (
        "under ModelParallelStrategy encoders are sharded over all processes, and no layer is "
        f"split: set data_parallel_size: {processes} and tensor_parallel_size: 1"
    )


def nothing_to_shard(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """A sharded checkpoint must hold a shard."""
    if not _is_sharding(trainer) or any(map(shardable, trunks(matcher))):
        return None
    return (
        "ModelParallelStrategy has nothing to shard: recurrent networks stay whole, and regions "
        "need no trunk; set trainer.strategy: ddp"
    )


def sharded_precision(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """Loss scaling does not look into shards, and Lightning knows no doubles there."""
    if not _is_sharding(trainer) or trainer.precision in _SHARDED_PRECISIONS:
        return None
    return (
        f"ModelParallelStrategy does not train in {trainer.precision}: set trainer.precision: "
        "bf16-mixed, bf16-true or 32-true"
    )


def sharded_compile(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """A compiled trunk would be compiled anew around each gathering of weights."""
    if not _is_sharding(trainer) or not matcher.compiles:
        return None
    return (
        "ModelParallelStrategy gathers weights in the middle of what model.compile would compile "
        "as a whole: set model.compile: false, or trainer.strategy: ddp"
    )


def sharded_prediction(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """Lightning deals out what is to be predicted unevenly; gathering weights waits for all."""
    if not _is_sharding(trainer) or trainer.world_size == 1 or trainer.state.fn != "predict":
        return None
    return (
        "processes that predict have different numbers of batches, and with ModelParallelStrategy "
        "would wait for each other: set trainer.devices: 1, or trainer.strategy: ddp"
    )


def synchronised_batch_norm(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """It is ddp's, and torch has it for GPUs alone."""
    if getattr(trainer.strategy, "_layer_sync", None) is None or not _has_batch_norm(matcher):
        return None
    if _is_sharding(trainer):
        return (
            "ModelParallelStrategy does not synchronise batch normalisation: set "
            "trainer.sync_batchnorm: false, or trainer.strategy: ddp"
        )
    if isinstance(trainer.strategy, DDPStrategy) and trainer.strategy.root_device.type == "cpu":
        return (
            "torch synchronises batch normalisation on GPUs alone: set trainer.sync_batchnorm: "
            "false, or trainer.accelerator: gpu"
        )
    return None


def half_alone(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """In float16, optimisers' small constants are 0 and small gradients too."""
    if trainer.precision != "16-true":
        return None
    return (
        "weights in float16 become NaN, as small numbers are 0 there: set trainer.precision: "
        "16-mixed, bf16-mixed or bf16-true"
    )


def half_similarity_vectors(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """Similarity vectors are float32, whatever the weights."""
    head = next((m for m in matcher.similarity.modules() if isinstance(m, Sgraf)), None)
    if trainer.precision != "bf16-true" or head is None:
        return None
    return (
        f"{type(head).__name__} compares in float32, for which its weights must not be bfloat16: "
        "set trainer.precision: bf16-mixed"
    )


def extracted_by_other_numbers(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """A trunk is known by the bytes of its weights."""
    data = getattr(trainer, "datamodule", None)  # there is none before it starts
    if trainer.precision not in ("bf16-true", "64-true") or data is None:
        return None
    if isinstance(matcher.image_encoder, RegionFeatures) or not getattr(
        data.source, "made_by", None
    ):
        return None
    return (
        f"{trainer.precision} changes the weights by which the trunk that made the features of "
        f"{type(data.source).__name__} is known: set trainer.precision: 32-true, or bf16-mixed"
    )


def same_pairs_everywhere(trainer: pl.Trainer, matcher: Matcher) -> str | None:
    """Without a distributed sampler every process draws the same batches."""
    if trainer.world_size == 1 or trainer._accelerator_connector.use_distributed_sampler:
        return None
    return (
        f"without a distributed sampler all {trainer.world_size} processes train on the same "
        "pairs: leave trainer.use_distributed_sampler out"
    )


RULES: tuple[Rule, ...] = (
    other_engines,
    tensor_parallel,
    nothing_to_shard,
    sharded_precision,
    sharded_compile,
    sharded_prediction,
    synchronised_batch_norm,
    half_alone,
    half_similarity_vectors,
    extracted_by_other_numbers,
    same_pairs_everywhere,
)


def _is_sharding(trainer: pl.Trainer) -> bool:
    return isinstance(trainer.strategy, ModelParallelStrategy)


def _has_batch_norm(matcher: Matcher) -> bool:
    return any(isinstance(module, _BatchNorm) for module in matcher.modules())
