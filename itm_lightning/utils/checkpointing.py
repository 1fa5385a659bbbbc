"""Computing twice instead of keeping: what a function needs to go backward, and its dice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

ResultT = TypeVar("ResultT")


def recompute(function: Callable[..., ResultT], *args: Any, anchor: Tensor) -> ResultT:
    """``function(*args)``, of which nothing is kept: the backward pass computes it once more.

    It draws the same random numbers then, so that dropout leaves out the same. It must change
    nothing that it reads.

    Args:
        function: what to compute.
        *args: its arguments, of any kind.
        anchor: any tensor on the device where the function draws random numbers. torch keeps the
            state of the generators of those devices alone on which it sees an argument, and it
            would not see any in a list of captions.
    """
    return checkpoint(
        lambda _, *others: function(*others),
        anchor,
        *args,
        use_reentrant=False,
        preserve_rng_state=True,
    )
