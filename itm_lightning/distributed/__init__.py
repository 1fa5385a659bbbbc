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
from itm_lightning.distributed.sharded_features import Spread, as_spread
from itm_lightning.distributed.views import Views

__all__ = [
    "ProcessGroup",
    "Processes",
    "SingleProcess",
    "Spread",
    "Views",
    "all_processes",
    "as_spread",
    "gather_rows",
    "is_distributed",
    "rank",
    "world_size",
]
