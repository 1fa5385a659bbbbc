"""What was seen more than once, and whether it was the same thing each time."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.distributed import Spread
from itm_lightning.types import Features

# Relative distance of the features of one photo or caption, seen twice: rounding stays far below,
# different ones lie far above. For vectors of one length it is a cosine of 0.99.
_SAME = 0.14
_SKETCH = 32  # numbers: enough to tell a distance of 0.14 from one of 0.3
_ROWS = 256  # sketched at a time


def first_of_each(keys: Tensor, features: Spread) -> tuple[Tensor, int | None]:
    """Rows at which a key stands for the first time, and one that clearly differs from its first.

    A collective. Features stay where they are: of those that stand more than once, a sketch goes
    round.

    Args:
        keys: ``(N,)`` or ``(N, d)`` int64.
        features: of the ``N`` rows.

    Returns:
        The rows in the order of their keys; and the first row that differs, or ``None``.
    """
    _, group = keys.cpu().unique(dim=0, return_inverse=True)
    row = torch.arange(len(group))
    first = torch.full((int(group.max()) + 1,), len(row)).scatter_reduce(0, group, row, "amin")
    repeated = group.bincount()[group] > 1
    if not repeated.any():
        return first, None
    sketches = torch.empty(len(row), _SKETCH)
    sketches[repeated] = _sketches(features[repeated])
    repeats = row[first[group] != row]
    clashes = repeats[_differ(sketches[repeats], sketches[first[group][repeats]])]
    return first, int(clashes[0]) if len(clashes) else None


def _differ(left: Tensor, right: Tensor) -> Tensor:
    """``(n,)`` bool, of sketches row by row."""
    size = torch.maximum(left.norm(dim=1), right.norm(dim=1))
    return (left - right).norm(dim=1) > _SAME * size


def _sketches(features: Spread) -> Tensor:
    """``(N, 32)`` float32 on the CPU: random projections, which keep distances about as they are.

    Johnson & Lindenstrauss (1984), Extensions of Lipschitz mappings into a Hilbert space.
    """
    rank = features.processes.rank
    own = features.place[features.holder == rank]
    parts = [_sketch(features.local[rows], features.length) for rows in own.split(_ROWS)]
    sketches = torch.cat(parts).cpu()
    counts = features.holder.bincount(minlength=features.processes.size).tolist()
    everybody = features.processes.share(sketches, counts).cpu()
    order = features.holder.argsort(stable=True)
    return everybody[order.argsort()]


def _sketch(features: Features, length: int) -> Tensor:
    random = torch.Generator().manual_seed(0)  # the same projection on every process
    values = features.tokens if features.pooled is None else features.pooled
    assert values is not None  # Features has one or both
    projection = torch.randn(values.shape[-1], _SKETCH, generator=random).to(values.device)
    projected = values.float() @ projection
    if features.pooled is not None:
        return projected
    assert features.mask is not None  # it comes with tokens
    signs = torch.randint(2, (length, _SKETCH), generator=random).to(values.device) * 2 - 1
    words = projected.masked_fill(~features.mask.unsqueeze(-1), 0)
    return (words * signs[: words.shape[1]]).sum(dim=1)  # each place with signs of its own
