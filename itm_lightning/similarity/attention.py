"""The maths of SCAN's stacked cross attention, for all pairs of a batch at once.

After Lee, Chen, Hua, Hu, He: "Stacked Cross Attention for Image-Text Matching", ECCV 2018. A
*query* token (a word in ``t2i``, a region in ``i2t``) attends to the *context* tokens of the other
side. Four dimensions return everywhere: ``Q`` query rows of ``A`` tokens each, ``C`` context rows
of ``K`` tokens each. Tensors are laid out ``(Q, A, C, K)``: one matrix product makes them, and the
softmax runs over the contiguous dimension. Padding tokens are zero vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-8  # SCAN's
_LEAK = 0.1  # slope of SCAN's "clipped" below zero

Scale = Callable[[Tensor, Tensor, float], Tensor]
Aggregate = Callable[[Tensor, Tensor, float], Tensor]


def _softmax(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
    padding = ~mask[:, :, None, None]
    return similarities.masked_fill(padding, -torch.inf).softmax(dim=1) * temperature


def _l2norm(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
    # the clamp keeps the square root's gradient finite where all similarities are zero
    norm = similarities.square().sum(dim=1, keepdim=True).clamp(min=_EPS**2).sqrt()
    return similarities * (temperature / (norm + _EPS))


def _l1norm(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
    norm = similarities.abs().sum(dim=1, keepdim=True)
    return similarities * (temperature / (norm + _EPS))


def _no_norm(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return similarities * temperature


def _clipped(normalise: Scale) -> Scale:
    def clipped(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return normalise(F.leaky_relu(similarities, _LEAK), mask, temperature)

    return clipped


#: SCAN's ``raw_feature_norm``: ``(similarities (Q, A, C, K), query mask (Q, A), temperature)`` to
#: logits ``(Q, A, C, K)``; every context token's similarities are normalised over the queries.
NORMALIZERS: dict[str, Scale] = {
    "softmax": _softmax,
    "l2norm": _l2norm,
    "clipped_l2norm": _clipped(_l2norm),
    "l1norm": _l1norm,
    "clipped_l1norm": _clipped(_l1norm),
    "clipped": _clipped(_no_norm),
    "no_norm": _no_norm,
}


def _log_sum_exp(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return (cosines * temperature).masked_fill(~mask, -torch.inf).logsumexp(dim=1) / temperature


def _mean(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return _sum(cosines, mask, temperature) / mask.sum(dim=1).clamp(min=1)


def _max(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return cosines.masked_fill(~mask, -torch.inf).amax(dim=1)


def _sum(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return cosines.masked_fill(~mask, 0).sum(dim=1)


#: SCAN's ``agg_func``: ``(cosines (Q, A, C), query mask (Q, A, 1), lse_temperature)`` to scores
#: ``(Q, C)``; only LogSumExp (equation 6) has a temperature.
AGGREGATORS: dict[str, Aggregate] = {
    "LogSumExp": _log_sum_exp,
    "Mean": _mean,
    "Max": _max,
    "Sum": _sum,
}


def attention(
    similarities: Tensor,
    query_mask: Tensor,
    context_mask: Tensor,
    normalise: Scale,
    temperature: float,
) -> Tensor:
    """Attention weights of every query token over the context tokens (equations 1 and 2).

    Args:
        similarities: ``(Q, A, C, K)`` float, cosine of every query and every context token.
        query_mask: ``(Q, A)`` bool.
        context_mask: ``(C, K)`` bool.
        normalise: one of :data:`NORMALIZERS`.
        temperature: SCAN's λ₁; higher is sharper.

    Returns:
        ``(Q, A, C, K)``, summing to 1 over ``K``; exactly 0 at padded context tokens.
    """
    logits = normalise(similarities, query_mask, temperature)
    lowest = torch.finfo(logits.dtype).min
    bias = torch.zeros_like(context_mask, dtype=logits.dtype).masked_fill_(~context_mask, lowest)
    # in place: the normaliser's result is ours alone, and no gradient needs it
    return logits.add_(bias).softmax(dim=-1)


def attended_cosine(weights: Tensor, similarities: Tensor, gram: Tensor) -> Tensor:
    """Cosine of every query token ``q`` and its attended vector ``Σ a_k c_k`` (equations 2 and 3).

    The attended vectors, ``D`` numbers a query token and context, are never formed:
    ``q · Σ a_k c_k = Σ a_k s_k`` and ``‖Σ a_k c_k‖² = aᵀ G a``.

    Args:
        weights: attention ``a (Q, A, C, K)``.
        similarities: ``s (Q, A, C, K)`` of unit vectors.
        gram: ``G (C, K, K)``, inner products of each context row's tokens.

    Returns:
        ``(Q, A, C)`` in [-1, 1].
    """
    along = (weights * similarities).sum(dim=-1)
    square = (torch.einsum("qack,ckl->qacl", weights, gram) * weights).sum(dim=-1)
    # clamped before the root: rounding may leave a square of zero slightly negative
    return along * square.clamp(min=_EPS**2).rsqrt()
