"""One token of each row."""

from __future__ import annotations

import torch
from torch import Tensor


def pick(tokens: Tensor, mask: Tensor, index: Tensor) -> Tensor:
    """``(B, D)``: the token at ``index (B,)``; zeros for a row without tokens.

    Args:
        tokens: ``(B, L, D)``.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        index: ``(B,)`` int64; of a row without tokens, any.
    """
    picked = tokens[torch.arange(len(tokens), device=tokens.device), index]
    return picked.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
