"""Scores of queries with several correct answers, as pure functions of the answers found."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.ranking import wrong_first


def ties_against_the_model(scores: Tensor, relevant: Tensor) -> Tensor:
    """``relevant``, best answer first, and among equals the wrong ones first.

    Args:
        scores: ``(n_queries, depth)`` float, of the answers found.
        relevant: ``(n_queries, depth)`` bool, whether each is correct.
    """
    return relevant.gather(1, wrong_first(scores, relevant))


def hit_rate(hits: Tensor, k: int) -> Tensor:
    """R@K: the percentage of queries with a correct answer among the first ``k``.

    Args:
        hits: ``(n_queries, depth)`` bool, whether the answer at each place is correct.
        k: at most the depth.
    """
    return 100 * hits[:, :k].any(dim=1).double().mean()


def r_precision(hits: Tensor, relevant: Tensor) -> Tensor:
    """R-Precision in percent: of a query's first R answers the share that is correct.

    Args:
        hits: ``(n_queries, depth)`` bool, at least as deep as the largest R.
        relevant: ``(n_queries,)`` int64, R: how many answers of each query are correct.
    """
    return 100 * (_first_r(hits, relevant).sum(dim=1) / relevant.double()).mean()


def average_precision_at_r(hits: Tensor, relevant: Tensor) -> Tensor:
    """mAP@R in percent (Musgrave et al. 2020, A metric learning reality check, equation 2).

    Of a query with R correct answers it is ``1/R Σ P(i) · rel(i)`` over the first R places, with
    ``P(i)`` the share of correct answers among the first i.

    Args:
        hits: ``(n_queries, depth)`` bool, at least as deep as the largest R.
        relevant: ``(n_queries,)`` int64, R.
    """
    first = _first_r(hits, relevant).double()
    places = torch.arange(1, first.shape[1] + 1, device=hits.device)
    precision = first.cumsum(dim=1) / places
    return 100 * ((precision * first).sum(dim=1) / relevant).mean()


def average_precision(hits: Tensor, at: int | None = None) -> Tensor:
    """``(n_queries,)`` float64 in [0, 1], each query's average precision over a ranking.

    ``Σ P(k) · rel(k) / Σ rel(k)`` with ``P(k)`` the share of correct answers among the first k.
    Both sums end at the cut-off: what is divided by is the number of correct answers **found**
    there, not that of all, so that a value at 50 may be far above that of the whole ranking. So
    count Feng, Wang, Li (2014), Cross-modal Retrieval with Correspondence Autoencoder, in their
    code. A query for which nothing correct is found has 0.

    Args:
        hits: ``(n_queries, depth)`` bool, whether the answer at each place is correct.
        at: the cut-off; the whole depth where ``None``.
    """
    hits = hits[:, :at].double()
    places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    precision = hits.cumsum(dim=1) / places
    return (precision * hits).sum(dim=1) / hits.sum(dim=1).clamp(min=1)


def normalised_gain(shared: Tensor, at: int) -> Tensor:
    """``(n_queries,)`` float64 in [0, 1], each query's normalised discounted cumulative gain.

    ``Σ (2^r - 1) / log₂(1 + k)`` over the first places ``k``, over that of the best ranking
    (Järvelin & Kekäläinen, TOIS 2002; the gain of Burges et al., ICML 2005). A query for which
    nothing gains has 0.

    Args:
        shared: ``(n_queries, depth)``, ``r`` of all answers, best answer first.
        at: the cut-off.
    """
    gains = 2 ** shared.double() - 1
    places = torch.arange(1, gains[:, :at].shape[1] + 1, device=shared.device).double()
    discounts = 1 / (1 + places).log2()
    best = gains.sort(dim=1, descending=True).values[:, :at] @ discounts
    return gains[:, :at] @ discounts / best.where(best > 0, 1.0)


def precision_within(distances: Tensor, relevant: Tensor, radius: float) -> Tensor:
    """``(n_queries,)`` float64: of the answers no farther than the radius the share that is right.

    A query without any has 0.

    Args:
        distances: ``(n_queries, n_answers)``.
        relevant: ``(n_queries, n_answers)`` bool.
        radius: the greatest distance.
    """
    near = distances <= radius
    return (near & relevant).sum(dim=1).double() / near.sum(dim=1).clamp(min=1)


def _first_r(hits: Tensor, relevant: Tensor) -> Tensor:
    """``hits``, and none after place R."""
    return hits & (torch.arange(hits.shape[1], device=hits.device) < relevant[:, None])
