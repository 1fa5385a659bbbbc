"""What several heads share: unit vectors, inner products, and the precision they are taken in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.types import full_precision

_TINY = 1e-30  # next to nothing in float32, too

ChoiceT = TypeVar("ChoiceT")


def root(squares: Tensor) -> Tensor:
    """Square root of what rounding may have left slightly negative; its gradient at 0 is 0."""
    return squares.clamp(min=_TINY).sqrt()


def affine(vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``vectors (…, D) · weightᵀ + bias``, with ``weight (H, D)``, in the vectors' precision."""
    with full_precision(vectors):
        bias = None if bias is None else bias.to(vectors.dtype)
        return F.linear(vectors, weight.to(vectors.dtype), bias)


def of_width(dim: int, vectors: Tensor, head: object) -> Tensor:
    """The vectors, checked to be as wide as the head was told.

    Raises:
        InputError: they are not.
    """
    if vectors.shape[-1] != dim:
        raise InputError(
            f"{type(head).__name__}(dim={dim}) got vectors of width {vectors.shape[-1]}: "
            f"set dim to {vectors.shape[-1]}, the width of the common space"
        )
    return vectors


def chosen(head: object, what: str, name: str, choices: Mapping[str, ChoiceT]) -> ChoiceT:
    """``choices[name]``.

    Raises:
        InputError: there is no such choice; the message names the head and lists those there are.
    """
    if name not in choices:
        known = ", ".join(choices)
        raise InputError(f"{type(head).__name__}: {what} must be one of {known}, not {name}")
    return choices[name]
