"""What several heads share: unit vectors, inner products, and the precision they are taken in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.precision import at_least_float32
from itm_lightning.types import Rows

_TINY = 1e-30  # next to nothing in float32, too

ChoiceT = TypeVar("ChoiceT")


@dataclass(frozen=True)
class Vectors(Rows):
    """A side prepared for inner products: ``vectors (B, D)``."""

    vectors: Tensor


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast leaves the operations on this tensor's device alone.

    Scores in bfloat16 tie by the dozen, and ties count against the model.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension, at least float32; zero stays zero."""
    return F.normalize(at_least_float32(vectors), dim=-1)


def root(squares: Tensor) -> Tensor:
    """Square root of what rounding may have left slightly negative; its gradient at 0 is 0."""
    return squares.clamp(min=_TINY).sqrt()


def affine(vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``vectors (…, D) · weightᵀ + bias``, with ``weight (H, D)``, in the vectors' precision."""
    with full_precision(vectors):
        bias = None if bias is None else bias.to(vectors.dtype)
        return F.linear(vectors, weight.to(vectors.dtype), bias)


def same_width(left: Tensor, right: Tensor) -> None:
    """Checks that the last dimensions are equal.

    Raises:
        InputError: the widths differ.
    """
    if left.shape[-1] != right.shape[-1]:
        raise InputError(
            f"photos and captions must share one width, but they have {left.shape[-1]} and "
            f"{right.shape[-1]}: give both encoders the same output size"
        )


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


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """``(A, B)`` inner products of the rows of ``left (A, D)`` and ``right (B, D)``.

    Raises:
        InputError: the widths differ.
    """
    same_width(left, right)
    return left @ right.mT


def chosen(head: object, what: str, name: str, choices: Mapping[str, ChoiceT]) -> ChoiceT:
    """``choices[name]``.

    Raises:
        InputError: there is no such choice; the message names the head and lists those there are.
    """
    if name not in choices:
        known = ", ".join(choices)
        raise InputError(f"{type(head).__name__}: {what} must be one of {known}, not {name}")
    return choices[name]
