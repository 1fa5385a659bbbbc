"""Activation checkpointing: a function is computed twice instead of keeping its activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

ResultT = TypeVar("ResultT")


def recompute(function: Callable[..., ResultT], *args: Any, anchor: Tensor) -> ResultT:
    """``function(*args)`` without keeping activations: the backward pass computes it once more.

    It draws the same random numbers then, so that dropout drops the same channels. It must not
    modify its arguments.

    Args:
        function: what to compute.
        *args: its arguments, of any kind.
        anchor: any tensor on the device where the function draws random numbers. torch saves the
            state of the generators only of the devices on which there are arguments, and a list of
            texts is on none.
    """
    return checkpoint(
        lambda _, *others: function(*others),
        anchor,
        *args,
        use_reentrant=False,
        preserve_rng_state=True,
    )
