"""The maths that several losses share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.types import Features, at_least_float32, unit_tokens


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


def pooled_vectors(features: Features, objective: object) -> Tensor:
    """The pooled vectors ``(B, D)`` in float32 at least.

    Raises:
        InputError: there are none.
    """
    if features.pooled is None:
        raise InputError(
            f"{type(objective).__name__} reads pooled vectors, and the head keeps tokens only: "
            "use it with a head that reads pooled vectors, such as Cosine"
        )
    return at_least_float32(features.pooled)


def class_cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy ``(B,)`` of each item's classes, in equal parts where it has several.

    Args:
        logits: ``(B, C)``, one a class.
        labels: ``(B, C)`` bool; the loss of an item without classes is 0.
    """
    log_odds = at_least_float32(logits).log_softmax(dim=1)
    shares = labels.to(log_odds.dtype)
    return -(shares * log_odds).sum(dim=1) / shares.sum(dim=1).clamp(min=1)


def likelihood_losses(logits: Tensor, similar: Tensor) -> Tensor:
    """``log(1 + exp Θ) - S Θ`` of each pair, the logistic loss; it does not overflow.

    Args:
        logits: ``Θ (n, m)`` float32 at least.
        similar: ``S (n, m)`` in [0, 1].

    Returns:
        ``(n, m)``.
    """
    return F.softplus(logits) - similar * logits
