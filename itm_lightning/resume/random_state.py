"""The random numbers of all processes, to go on with."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch
from torch import distributed as dist

from itm_lightning.distributed import is_distributed, rank, world_size

State = dict[str, Any]


def every_rank() -> list[State]:
    """The state of each process's generators, in plain values; all processes must call this."""
    states: list[Any] = [None] * world_size()
    if not is_distributed():
        return [_own()]
    dist.all_gather_object(states, _own())
    return states


def restore(states: list[State]) -> None:
    """Takes this process's part of :func:`every_rank`; none where there are more processes now."""
    if rank() >= len(states):
        return
    state = states[rank()]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *others = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *others))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _own() -> State:
    version, numbers, gauss = random.getstate()
    name, keys, *others = cast(tuple[Any, ...], np.random.get_state())
    state = {
        "python": (version, torch.tensor(numbers), gauss),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *others),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
