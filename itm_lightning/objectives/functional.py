"""The maths that losses share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.objectives.comparison import Queries
from itm_lightning.types import Features, unit_tokens


def violations(queries: Queries, margin: float) -> Tensor:
    """How far each negative comes within the margin of its query's own candidate.

    Args:
        queries: ``b`` queries of ``B`` candidates.
        margin: by how much a query should score its own above its negatives.

    Returns:
        ``(b, B)``, zero where there is no violation.
    """
    beyond = (margin + queries.scores - queries.positive_scores).clamp(min=0)
    return beyond.masked_fill(~queries.negatives, 0)


def cross_entropies(logits: Tensor, queries: Queries) -> Tensor:
    """Cross entropy of each query, its own candidate the target.

    A candidate that is neither its own nor a negative gets no probability at all.

    Args:
        logits: ``(b, B)`` float32 at least, of the queries' scores.
        queries: the queries.

    Returns:
        ``(b,)``.
    """
    logits = logits.masked_fill(~queries.valid, -torch.inf)
    return F.cross_entropy(logits, queries.targets, reduction="none")


def matching_losses(logits: Tensor, matches: Tensor) -> Tensor:
    """Of each pair, minus the log of the probability ``sigmoid(±logit)`` of what it is.

    Args:
        logits: ``(n, m)`` float32 at least.
        matches: ``(n, m)`` bool, ``True`` where photo and caption match.

    Returns:
        ``(n, m)``.
    """
    return F.softplus(torch.where(matches, -logits, logits))


def unit_sets(side: Features, objective: object) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, L, D)`` of length 1 in float32 at least, zero at padding; and their mask.

    Raises:
        InputError: there are none.
    """
    if side.tokens is None or side.mask is None:
        raise InputError(
            f"{type(objective).__name__} reads tokens, and the head keeps pooled vectors only: "
            "use it with a head that reads tokens, such as SmoothChamfer"
        )
    return unit_tokens(side.tokens, side.mask), side.mask
