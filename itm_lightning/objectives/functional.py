"""The maths of the contrastive losses, for both directions at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def violations(scores: Tensor, negatives: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """How far each negative comes within the margin of its positive.

    Args:
        scores: ``(B, B)`` float, positives on the diagonal.
        negatives: ``(B, B)`` bool, from :func:`itm_lightning.objectives.base.negatives_mask`.
        margin: by how much a positive should exceed its negatives.

    Returns:
        Two ``(B, B)``, zero where there is no violation: of the photos' queries (compared along
        rows) and of the captions' (along columns).
    """
    positives = scores.diagonal()
    photos = (margin + scores - positives[:, None]).clamp(min=0)
    captions = (margin + scores - positives[None, :]).clamp(min=0)
    return photos.masked_fill(~negatives, 0), captions.masked_fill(~negatives, 0)


def symmetric_cross_entropy(logits: Tensor, negatives: Tensor) -> Tensor:
    """Mean of the photos' and the captions' cross entropy, each with its pair as the target.

    Off-diagonal pairs that are no negatives get no probability at all.

    Args:
        logits: ``(B, B)`` float32, positives on the diagonal.
        negatives: ``(B, B)`` bool.
    """
    targets = torch.arange(len(logits), device=logits.device)
    excluded = ~negatives & (targets[:, None] != targets[None, :])
    logits = logits.masked_fill(excluded, -torch.inf)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.mT, targets)) / 2


def matching_losses(logits: Tensor, matches: Tensor) -> Tensor:
    """Of each pair, minus the log of the probability ``sigmoid(±logit)`` of what it is.

    Args:
        logits: ``(B, B)`` float32.
        matches: ``(B, B)`` bool, ``True`` where photo and caption match.

    Returns:
        ``(B, B)``.
    """
    return F.softplus(torch.where(matches, -logits, logits))


def counted_pairs(negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs are positives, and which count at all, of ``negatives (B, B)`` bool.

    Off the diagonal, what is no negative is the same photo with another of its captions: neither.
    """
    positives = torch.eye(len(negatives), dtype=torch.bool, device=negatives.device)
    return positives, positives | negatives
