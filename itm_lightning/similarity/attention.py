"""The maths of SCAN's stacked cross attention, for all pairs of a batch at once.

After Lee, Chen, Hua, Hu, He: "Stacked Cross Attention for Image-Text Matching", ECCV 2018. A
*query* token (a word in ``t2i``, a region in ``i2t``) attends to the *context* tokens of the other
side. Four dimensions occur everywhere: ``C`` context rows of ``K`` tokens each, and ``Q`` query
rows of ``A`` tokens each. Tensors are laid out ``(C, K, Q, A)``: one matrix product computes them,
and reductions over the context are vectorised. Padding tokens are zero vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-8  # SCAN's
_LEAK = 0.1  # slope of SCAN's "clipped" below zero
# Beyond this, powers of e (and their squares, summed) no longer fit into float32.
_MAX_TEMPERATURE = 40.0
# Stands for padding. Not -inf: a row of padding alone then has a score, and finite gradients.
_LOWEST = -1e30
_SMALLEST = 1e-37  # its logarithm is finite, and it is below every sum of powers

Scale = Callable[[Tensor, Tensor, float], Tensor]
Aggregate = Callable[[Tensor, Tensor, float], Tensor]


def _times(own: Tensor, factor: Tensor | float) -> Tensor:
    """``own * factor``, overwriting ``own`` unless a gradient needs it.

    The fewer tensors of this size there are, the more of them stay in the cache.
    """
    return own * factor if own.requires_grad else own.mul_(factor)


def _softmax(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
    powers = similarities.exp() * mask  # of cosines: at most e
    return _times(powers, temperature / powers.sum(dim=-1, keepdim=True).clamp(min=_EPS))


def _l2norm(own: Tensor, mask: Tensor, temperature: float) -> Tensor:
    norm = torch.linalg.vector_norm(own, dim=-1, keepdim=True)
    return _times(own, temperature / (norm + _EPS))


def _l1norm(own: Tensor, mask: Tensor, temperature: float) -> Tensor:
    norm = own.abs().sum(dim=-1, keepdim=True)
    return _times(own, temperature / (norm + _EPS))


def _no_norm(own: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return _times(own, temperature)


def _clipped(normalise: Scale) -> Scale:
    def clipped(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return normalise(F.leaky_relu(similarities, _LEAK), mask, temperature)

    return clipped


def _unclipped(normalise: Scale) -> Scale:
    def unclipped(similarities: Tensor, mask: Tensor, temperature: float) -> Tensor:
        return normalise(similarities.clone(), mask, temperature)

    return unclipped


#: SCAN's ``raw_feature_norm``: ``(similarities (C, K, Q, A), query mask (Q, A), temperature)`` to
#: logits ``(C, K, Q, A)``; every context token's similarities are normalised over the queries.
NORMALIZERS: dict[str, Scale] = {
    "softmax": _softmax,
    "l2norm": _unclipped(_l2norm),
    "clipped_l2norm": _clipped(_l2norm),
    "l1norm": _unclipped(_l1norm),
    "clipped_l1norm": _clipped(_l1norm),
    "clipped": _clipped(_no_norm),
    "no_norm": _unclipped(_no_norm),
}


def _log_sum_exp(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    if temperature > _MAX_TEMPERATURE:
        return _without_padding(cosines * temperature, mask).logsumexp(dim=-1) / temperature
    # no cosine exceeds 1: powers do not overflow, and need no search for the largest
    powers = (cosines * temperature).exp() * mask
    return powers.sum(dim=-1).clamp(min=_SMALLEST).log() / temperature


def _mean(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return _sum(cosines, mask, temperature) / mask.sum(dim=-1).clamp(min=1)


def _max(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return _without_padding(cosines, mask).amax(dim=-1)


def _sum(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return cosines.masked_fill(~mask, 0).sum(dim=-1)


def _without_padding(cosines: Tensor, mask: Tensor) -> Tensor:
    return cosines.masked_fill(~mask, _LOWEST)


#: SCAN's ``agg_func``: ``(cosines (..., A), query mask that broadcasts, lse_temperature)`` to
#: scores ``(...)``; only LogSumExp (equation 6) has a temperature.
AGGREGATORS: dict[str, Aggregate] = {
    "LogSumExp": _log_sum_exp,
    "Mean": _mean,
    "Max": _max,
    "Sum": _sum,
}


def _mean_weights(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return _sum_weights(cosines, mask, temperature) / mask.sum(dim=-1, keepdim=True).clamp(min=1)


def _max_weights(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    best = _without_padding(cosines, mask).argmax(dim=-1, keepdim=True)
    return torch.zeros_like(cosines).scatter(-1, best, 1) * mask


def _sum_weights(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return mask.to(cosines.dtype).expand_as(cosines)


def _log_sum_exp_weights(cosines: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return _without_padding(cosines * temperature, mask).softmax(dim=-1) * mask


#: ``(cosines (..., A), query mask that broadcasts, lse_temperature)`` to weights ``w (..., A)``,
#: zero at padding. ``Σ w_a · cosine_a`` is the score; of LogSumExp, whose weights are its
#: derivatives ``softmax(λ · cosines)``, it is the score less :data:`ENTROPY`.
AGGREGATOR_WEIGHTS: dict[str, Aggregate] = {
    "LogSumExp": _log_sum_exp_weights,
    "Mean": _mean_weights,
    "Max": _max_weights,
    "Sum": _sum_weights,
}

#: What ``Σ w_a · x_a`` with ``w = softmax(λ x)`` lacks of ``1/λ · log Σ exp(λ x_a)``.
ENTROPY = "the entropy of LogSumExp's weights over its temperature, H(softmax(λ x)) / λ"


def attention(
    similarities: Tensor,
    query_mask: Tensor,
    context_mask: Tensor,
    normalise: Scale,
    temperature: float,
) -> Tensor:
    """Attention weights of every query token over the context tokens (equations 1 and 2).

    Args:
        similarities: ``(C, K, Q, A)`` float, cosine of every context and every query token.
        query_mask: ``(Q, A)`` bool.
        context_mask: ``(C, K)`` bool.
        normalise: one of :data:`NORMALIZERS`.
        temperature: SCAN's λ₁; higher is sharper.

    Returns:
        ``(C, K, Q, A)``, summing to 1 over ``K``; exactly 0 at padded context tokens.
    """
    logits = normalise(similarities, query_mask, temperature)
    bias = (~context_mask).to(logits.dtype)[:, :, None, None] * _LOWEST
    # in place: nothing else, and no gradient, needs the normaliser's result
    return logits.add_(bias).softmax(dim=1)


def attention_up_to_scale(
    similarities: Tensor,
    query_mask: Tensor,
    context_mask: Tensor,
    normalise: Scale,
    temperature: float,
) -> Tensor:
    """:func:`attention`, with the weights of each query multiplied by some positive number.

    That is enough for :func:`attended_cosine`, which depends on the direction of the attended
    vector only, and saves two passes of the softmax. Padded context tokens get a weight, and must
    be zero vectors.
    """
    if temperature > _MAX_TEMPERATURE:
        return attention(similarities, query_mask, context_mask, normalise, temperature)
    # no logit exceeds the temperature; in place, as in attention
    return normalise(similarities, query_mask, temperature).exp_()


def attended_cosine(weights: Tensor, similarities: Tensor, gram: Tensor) -> Tensor:
    """Cosine of every query token ``q`` and its attended vector ``Σ a_k c_k`` (equations 2 and 3).

    The attended vectors, ``D`` numbers a query token and context, are never formed:
    ``q · Σ a_k c_k = Σ a_k s_k``.

    Args:
        weights: attention ``a (C, K, Q, A)``, up to a scale for each query; overwritten unless a
            gradient needs it.
        similarities: ``s (C, K, Q, A)`` of unit vectors, zero at padding.
        gram: ``(C, K, K)``, inner products of each context row's tokens.

    Returns:
        ``(C, Q, A)`` in [-1, 1].
    """
    inverse = inverse_length(weights, gram)
    return _times(weights, similarities).sum(dim=1) * inverse


def inverse_length(weights: Tensor, gram: Tensor) -> Tensor:
    """``1 / ‖Σ a_k c_k‖ (C, Q, A)``, by ``‖Σ a_k c_k‖² = aᵀ G a``.

    Args:
        weights: ``a (C, K, Q, A)``.
        gram: ``G (C, K, K)``, inner products of each context row's tokens.
    """
    products = (gram @ weights.flatten(2)).view_as(weights)
    # clamped before the root: rounding may leave a square of zero slightly negative
    return _times(products, weights).sum(dim=1).clamp(min=_EPS**2).rsqrt()
