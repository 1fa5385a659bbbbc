"""Many processes that work as one: the group, its collectives, and rows that they share."""

from itm_lightning.distributed.group import (
    Processes,
    ProcessGroup,
    SingleProcess,
    all_processes,
    gather_rows,
    is_distributed,
    rank,
    world_size,
)
from itm_lightning.distributed.sharded_features import ShardedFeatures, as_sharded

__all__ = [
    "ProcessGroup",
    "Processes",
    "ShardedFeatures",
    "SingleProcess",
    "all_processes",
    "as_sharded",
    "gather_rows",
    "is_distributed",
    "rank",
    "world_size",
]
