"""Which settings of the trainer a model cannot be combined with.

Each rule gives the reason and the mend, or None. Rules about sharding are in
:mod:`itm_lightning.sharding.rules`; a head names the precisions that it does not support in its
``unsupported_precisions``.
"""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from itm_lightning.errors import InputError
from itm_lightning.evaluating import RetrievalModule
from itm_lightning.sharding import rules as sharding_rules
from itm_lightning.similarity.base import Similarity
from itm_lightning.training.gradient_cache import BATCH_NORMS
from itm_lightning.utils.internals import batch_norm_is_synchronised, samples_are_distributed


def check_trainer(trainer: pl.Trainer, model: RetrievalModule) -> None:
    """Checks that trainer and model can be combined, before anything starts.

    Raises:
        InputError: they cannot; the message says why, and what to set instead.
    """
    for rule in (*sharding_rules.RULES, *RULES):
        if reason := rule(trainer, model):
            raise InputError(reason)


def synchronised_batch_norm(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """Only ddp synchronises batch normalisation, and torch can do so only on GPUs."""
    strategy, sharding = trainer.strategy, sharding_rules.is_sharding(trainer)
    if not sharding and not isinstance(strategy, DDPStrategy):
        return None
    if not batch_norm_is_synchronised(strategy) or not _has_batch_norm(model):
        return None
    if sharding:
        return (
            "ModelParallelStrategy does not synchronise batch normalisation: set "
            "trainer.sync_batchnorm: false, or trainer.strategy: ddp"
        )
    if strategy.root_device.type == "cpu":
        return (
            "torch synchronises batch normalisation on GPUs alone: set trainer.sync_batchnorm: "
            "false, or trainer.accelerator: gpu"
        )
    return None


def float16_weights(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """In float16, optimisers' small constants are 0, and small gradients too."""
    if trainer.precision != "16-true":
        return None
    return (
        "weights in float16 become NaN, as small numbers are 0 there: set trainer.precision: "
        "16-mixed, bf16-mixed or bf16-true"
    )


def precision_of_head(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """A head, or one within it, may not be computable in every precision."""
    for head in model.similarity.modules():
        if isinstance(head, Similarity) and trainer.precision in head.unsupported_precisions:
            return (
                f"{type(head).__name__} cannot be computed in {trainer.precision}: set "
                "trainer.precision: 32-true or bf16-mixed"
            )
    return None


def same_pairs_everywhere(trainer: pl.Trainer, model: RetrievalModule) -> str | None:
    """Without a distributed sampler every process draws the same batches."""
    if trainer.world_size == 1 or samples_are_distributed(trainer):
        return None
    return (
        f"without a distributed sampler all {trainer.world_size} processes train on the same "
        "pairs: leave trainer.use_distributed_sampler out"
    )


RULES = synchronised_batch_norm, float16_weights, precision_of_head, same_pairs_everywhere


def _has_batch_norm(model: RetrievalModule) -> bool:
    return any(isinstance(module, BATCH_NORMS) for module in model.modules())
