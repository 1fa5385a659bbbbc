"""Functions that several heads share: arithmetic, and checks of their arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.types import full_precision

_TINY = 1e-30  # negligible, and representable in float32

ChoiceT = TypeVar("ChoiceT")


def root(squares: Tensor) -> Tensor:
    """Square root of squares that rounding may have made negative; its gradient at 0 is 0."""
    return squares.clamp(min=_TINY).sqrt()


def affine(vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``vectors (…, D) · weightᵀ + bias``, with ``weight (H, D)``, in the vectors' precision."""
    with full_precision(vectors):
        bias = None if bias is None else bias.to(vectors.dtype)
        return F.linear(vectors, weight.to(vectors.dtype), bias)


def of_width(dim: int, vectors: Tensor, head: object) -> Tensor:
    """The vectors, after a check of their width.

    Raises:
        InputError: the width is not ``dim``.
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
        InputError: there is no such choice; the message names the head and lists the choices.
    """
    if name not in choices:
        known = ", ".join(choices)
        raise InputError(f"{type(head).__name__}: {what} must be one of {known}, not {name}")
    return choices[name]
