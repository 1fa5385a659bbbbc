"""A mixture of Gaussians with independent dimensions: its density, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.types import double

# Of the data's mean variance: a component of few rows would else become a point.
_LEAST_VARIANCE = 1e-3
_ROUNDS = 20


@dataclass(frozen=True)
class Mixture:
    """``Σₖ πₖ N(μₖ, diag σ²ₖ)``.

    Attributes:
        weights: ``π (K,)``, which add up to 1.
        means: ``μ (K, D)``.
        variances: ``σ² (K, D)``.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def log_densities(self, rows: Tensor) -> Tensor:
        """``log p (n,)`` of rows ``(n, D)``, in float64."""
        return _log_joint(rows, self).logsumexp(dim=1)


@torch.no_grad()
def fit_mixture(rows: Tensor, components: int) -> Mixture:
    """Fits a mixture to rows ``(n, D)``.

    Twenty rounds of k-means, from the starts of k-means++ (Arthur & Vassilvitskii, SODA 2007), then
    twenty of expectation maximisation. The same rows give the same mixture. A component that loses
    all of its rows keeps its place.

    Args:
        rows: at least as many as components.
        components: ``K``; with one it is the Gaussian of the rows' means and variances.
    """
    rows = double(rows)
    floor = _LEAST_VARIANCE * rows.var(dim=0, correction=0).mean() + torch.finfo(rows.dtype).eps
    variances = rows.new_ones(components, rows.shape[1])
    equal = rows.new_full((components,), 1 / components)
    mixture = Mixture(equal, _starts(rows, components), variances)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(rows, mixture.means).argmin(dim=1)
        shares = torch.nn.functional.one_hot(nearest, components).to(rows.dtype)
        mixture = _maximised(rows, shares, mixture, floor)
    for _ in range(_ROUNDS):
        mixture = _maximised(rows, _log_joint(rows, mixture).softmax(dim=1), mixture, floor)
    return mixture


def _starts(rows: Tensor, count: int) -> Tensor:
    """Some of the rows ``(count, D)``, each drawn by its squared distance from those before it."""
    generator, starts = torch.Generator().manual_seed(0), [rows[0]]
    nearest = (rows - rows[0]).square().sum(dim=1)
    while len(starts) < count:
        odds = nearest.cpu() + torch.finfo(rows.dtype).tiny  # where all rows are the same
        starts.append(rows[int(odds.multinomial(1, generator=generator))])
        nearest = nearest.minimum((rows - starts[-1]).square().sum(dim=1))
    return torch.stack(starts)


def _log_joint(rows: Tensor, mixture: Mixture) -> Tensor:
    """``log πₖ + log N(row; μₖ, σ²ₖ) (n, K)``."""
    rows, weights, means, variances = map(
        double, (rows, mixture.weights, mixture.means, mixture.variances)
    )
    # (x - μ)² / σ², multiplied out: products of matrices instead of an (n, K, D) tensor
    distances = rows.square() @ (1 / variances).mT - 2 * rows @ (means / variances).mT
    distances = distances + (means.square() / variances).sum(dim=1)
    volumes = (2 * torch.pi * variances).log().sum(dim=1)
    return weights.log() - (distances + volumes) / 2


def _maximised(rows: Tensor, shares: Tensor, before: Mixture, floor: Tensor) -> Mixture:
    """The mixture that is most likely where each row belongs to components by ``shares (n, K)``."""
    counts = shares.sum(dim=0)[:, None]
    lost = counts < 1e-6
    counts = counts.clamp(min=1e-6)
    means = torch.where(lost, before.means, shares.mT @ rows / counts)
    squares = shares.mT @ rows.square() / counts - means.square()
    variances = torch.where(lost, before.variances, squares.clamp(min=floor))
    return Mixture(counts.squeeze(1) / counts.sum(), means, variances)
