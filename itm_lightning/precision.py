"""Which floating-point numbers to compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def double(tensor: Tensor) -> Tensor:
    """To float64, which autocast leaves alone; to float32 on devices without it (Apple's)."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)
