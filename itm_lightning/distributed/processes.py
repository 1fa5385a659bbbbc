"""Which process this is, and of how many."""

from __future__ import annotations

from torch import distributed as dist


def is_distributed() -> bool:
    """Whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number; 0 where there is only one."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if is_distributed() else 1
