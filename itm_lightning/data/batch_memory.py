"""Memory for batches, from which a loader's process sends them without another copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from itm_lightning.types import Features
from itm_lightning.utils.internals import shared_storage


def empty_tensor(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """A tensor of arbitrary numbers, to be filled.

    In a loader's process it lies in memory that the trainer's process can read, as the tensors of
    ``default_collate`` do: a tensor elsewhere would be copied there to be sent.
    """
    if get_worker_info() is None:
        # by NumPy, which asks for huge pages: new memory costs more than filling it
        return torch.from_numpy(np.empty(shape, dtype))
    storage = shared_storage(math.prod(shape) * dtype.itemsize)
    return torch.from_numpy(np.empty(0, dtype)).set_(storage, 0, shape)  # type: ignore[call-overload]


def pad_regions(regions: Sequence[Tensor]) -> Features:
    """Tokens ``(B, L, D)`` and their mask, from ``B`` tensors ``(L_i, D)`` of regions.

    ``L`` is the largest ``L_i``; missing regions are zero.
    """
    lengths = [len(one) for one in regions]
    length, dim = max(lengths), regions[0].shape[1]
    tokens = empty_tensor((len(regions), length, dim), regions[0].numpy().dtype)
    for row, one in zip(tokens, regions, strict=True):
        row[: len(one)] = one
        row[len(one) :] = 0
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    return Features(tokens, mask, pooled=None)
