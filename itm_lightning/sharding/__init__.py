"""Sharding by FSDP2: the trunks are sharded, because they are large; everything else is not.

A head reads its parameters in many ways, clamps them in place and may have parameters of a single
number, which FSDP2 does not shard; sharding it would save no memory either. So each process has
all of them, and they stay equal because their gradients are averaged before each step, as FSDP2
averages the gradients of its shards.

A LightningModule calls :func:`shard_trunks` in ``configure_model``, :func:`synchronise` in
``on_before_optimizer_step``, :func:`clip_gradients` in ``configure_gradient_clipping``,
:func:`separate` on its optimiser, and :func:`checkpoint_layout` in ``on_save_checkpoint``.
"""

from itm_lightning.sharding.gradients import (
    checkpoint_layout,
    clip_gradients,
    clip_norm,
    clip_value,
    separate,
    synchronise,
)
from itm_lightning.sharding.trunks import (
    blocks,
    is_sharded,
    shard,
    shard_trunks,
    shardable,
    trunks,
)

__all__ = [
    "blocks",
    "checkpoint_layout",
    "clip_gradients",
    "clip_norm",
    "clip_value",
    "is_sharded",
    "separate",
    "shard",
    "shard_trunks",
    "shardable",
    "synchronise",
    "trunks",
]
