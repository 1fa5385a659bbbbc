"""Gathering rows from every process."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.bool,
    torch.uint8,
)
_MAX_DIMS = 4


def gather_rows(
    tensor: Tensor | None, device: torch.device, group: dist.ProcessGroup | None = None
) -> Tensor | None:
    """The rows of all processes, in the order of their ranks; without gradient.

    A collective: every process must call it. Nothing is pickled; shapes go first.

    Args:
        tensor: ``(B, …)``; ``B`` may differ between processes. Other dimensions that differ (the
            number of words) are padded with zeros to the largest. ``None`` where a process has no
            rows and so cannot know their shape.
        device: where the process group moves tensors, and where the result lies.
        group: the processes, where they are not all there are.

    Returns:
        ``(ΣB, …)``, or ``None`` if no process has rows.
    """
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return tensor
    headers = [header.tolist() for header in _all_gather(_header(tensor, device), group)]
    shapes = [dims[:n_dims] for n_dims, _, *dims in headers if n_dims]
    if not shapes:
        return None
    dtype = next(DTYPES[code] for n_dims, code, *_ in headers if n_dims)
    padded = torch.zeros([max(sizes) for sizes in zip(*shapes, strict=True)], dtype=dtype)
    padded = padded.to(device)
    if tensor is not None:
        padded[tuple(slice(size) for size in tensor.shape)] = tensor.detach()
    # as bytes: not every backend moves bool and bfloat16
    parts = [padded] * len(headers)
    if padded.numel():
        parts = _all_gather(padded.view(torch.uint8), group)
    return torch.cat(
        [part.view(dtype)[: header[2]] for part, header in zip(parts, headers, strict=True)]
    )


def _header(tensor: Tensor | None, device: torch.device) -> Tensor:
    """Number of dimensions (0: no rows known), dtype, and the sizes, filled up with zeros."""
    values = [0, 0] if tensor is None else [tensor.ndim, DTYPES.index(tensor.dtype), *tensor.shape]
    return torch.tensor(values + [0] * (2 + _MAX_DIMS - len(values)), device=device)


def _all_gather(tensor: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return parts
