"""Room for a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from itm_lightning.types import Features


def empty(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """A tensor to be filled.

    In a loader's process it is memory that the trainer's process can see, as ``default_collate``
    takes too: what lies elsewhere is copied there to be sent.
    """
    if get_worker_info() is None:
        # numpy's, because it asks for huge pages: new memory costs more than filling it
        return torch.from_numpy(np.empty(shape, dtype))
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.from_numpy(np.empty(0, dtype)).set_(storage, 0, shape)  # type: ignore[call-overload]


def padded(regions: Sequence[Tensor]) -> Features:
    """Tokens ``(B, L, D)``, and their mask, of regions ``(L, D)`` that may differ in number."""
    lengths = [len(one) for one in regions]
    length, dim = max(lengths), regions[0].shape[1]
    tokens = empty((len(regions), length, dim), regions[0].numpy().dtype)
    for row, one in zip(tokens, regions, strict=True):
        row[: len(one)] = one
        row[len(one) :] = 0
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    return Features(tokens, mask, pooled=None)
