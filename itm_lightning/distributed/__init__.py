"""Many processes that work as one: who they are, and what they hand each other."""

from itm_lightning.distributed.processes import is_distributed, rank, world_size
from itm_lightning.distributed.rows import gather_rows

__all__ = ["gather_rows", "is_distributed", "rank", "world_size"]
