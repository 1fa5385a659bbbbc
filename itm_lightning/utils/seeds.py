"""Random numbers that depend on what they are for, not on what was drawn before."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(purpose: str, *numbers: int) -> int:
    """A seed below ``2**63``, different for each purpose and for each of the numbers.

    Args:
        purpose: what the random numbers are for.
        numbers: what they depend on, such as the run's seed and the epoch.
    """
    digest = hashlib.blake2b(repr((purpose, *numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(purpose: str, *numbers: int) -> torch.Generator:
    """A generator on the CPU; arguments as above."""
    return torch.Generator().manual_seed(seed_of(purpose, *numbers))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, the random numbers of torch (on the CPU), numpy and Python follow from ``seed``.

    After the block, they continue from where they were before it.
    """
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
