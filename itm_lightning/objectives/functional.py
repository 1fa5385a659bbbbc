"""The maths that several losses share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.types import Features, unit_tokens


def matching_losses(logits: Tensor, matches: Tensor) -> Tensor:
    """Of each pair, minus the log of the probability ``sigmoid(±logit)`` of what it is.

    Args:
        logits: ``(n, m)`` float32 at least.
        matches: ``(n, m)`` bool, ``True`` where image and text match.

    Returns:
        ``(n, m)``.
    """
    return F.softplus(torch.where(matches, -logits, logits))


def unit_sets(features: Features, objective: object) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, L, D)`` of length 1 in float32 at least, zero at padding; and their mask.

    Raises:
        InputError: there are none.
    """
    if features.tokens is None or features.mask is None:
        raise InputError(
            f"{type(objective).__name__} reads tokens, and the head keeps pooled vectors only: "
            "use it with a head that reads tokens, such as SmoothChamfer"
        )
    return unit_tokens(features.tokens, features.mask), features.mask
