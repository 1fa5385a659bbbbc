"""What several heads share: unit vectors, inner products, and the precision they are taken in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.types import Rows


@dataclass(frozen=True)
class Vectors(Rows):
    """A side prepared for inner products: ``vectors (B, D)``."""

    vectors: Tensor


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast leaves the operations on this tensor's device alone.

    Scores in bfloat16 tie by the dozen, and ties count against the model.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension, at least float32; zero stays zero."""
    return F.normalize(at_least_float32(vectors), dim=-1)


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """``(A, B)`` inner products of the rows of ``left (A, D)`` and ``right (B, D)``.

    Raises:
        InputError: the widths differ.
    """
    if left.shape[-1] != right.shape[-1]:
        raise InputError(
            f"photos and captions must share one width, but they have {left.shape[-1]} and "
            f"{right.shape[-1]}: give both encoders the same output size"
        )
    return left @ right.mT
