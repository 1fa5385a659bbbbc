"""Many processes that work as one: who they are, and what they hand each other."""

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
from itm_lightning.distributed.views import Views

__all__ = [
    "ProcessGroup",
    "Processes",
    "ShardedFeatures",
    "SingleProcess",
    "Views",
    "all_processes",
    "as_sharded",
    "gather_rows",
    "is_distributed",
    "rank",
    "world_size",
]
