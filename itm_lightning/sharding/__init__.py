"""Sharding by FSDP2: the trunks, which are large; what stands around them stays whole.

A head reads its parameters in many ways, clamps them in place and may have some of a single
number, which FSDP2 does not shard; nor would it save memory. So each process has the whole of
them, and they learn alike because their gradients are averaged before each step, as FSDP2 averages
those of its shards.
"""

from itm_lightning.sharding.gradients import clip_norm, clip_value, separate, synchronise
from itm_lightning.sharding.module import ShardingModule
from itm_lightning.sharding.trunks import blocks, is_sharded, shard, shardable

__all__ = [
    "ShardingModule",
    "blocks",
    "clip_norm",
    "clip_value",
    "is_sharded",
    "separate",
    "shard",
    "shardable",
    "synchronise",
]
