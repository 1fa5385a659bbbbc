"""Batches of rows made one tensor, where there is no room for both."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def drained(parts: list[Tensor]) -> Tensor:
    """The rows of all parts; each part is let go of as soon as it is copied.

    Args:
        parts: at least one, ``(n, d, …)``, of which the second dimension may differ; it is filled
            up with zeros to the largest. Afterwards the list holds nothing but the result.
    """
    if len(parts) == 1:
        return parts[0]
    n_rows, width = sum(map(len, parts)), max(part.shape[1] for part in parts)
    dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts))
    # empty, not zeros: memory is taken up as it is written, and given back at the same pace
    whole = parts[0].new_empty((n_rows, width, *parts[0].shape[2:]), dtype=dtype)
    parts.reverse()
    start = 0
    while parts:
        part = parts.pop()
        rows = whole[start : start + len(part)]
        rows[:, : part.shape[1]] = part
        rows[:, part.shape[1] :] = 0
        start += len(part)
    parts.append(whole)
    return whole
