"""Restricted Boltzmann machines, trained by contrastive divergence.

Hinton: "Training Products of Experts by Minimizing Contrastive Divergence" (Neural Computation 14,
2002); the settings are those of his "Practical Guide to Training Restricted Boltzmann Machines"
(2010). Visible numbers are ``"gaussian"`` (standardised, of variance 1), ``"binary"``, or word
counts of a replicated softmax (Salakhutdinov and Hinton, NIPS 2009); hidden ones are binary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.objectives.autoencoder import Units

BATCH = 100
# sections 8 to 10 of the guide; real numbers want a rate that is one or two orders lower
_RATES: dict[Units, float] = {"gaussian": 1e-3, "binary": 0.1, "softmax": 0.1}
_DECAY = 2e-4
_DEVIATION = 0.01
_MOMENTUM, _FIRST_MOMENTUM, _FIRST_EPOCHS = 0.9, 0.5, 5
_SMALLEST_SHARE = 1e-4


@dataclass
class RBM:
    """The energy ``-b·v - c·h - v·W h`` (for ``"softmax"`` ``N c·h``, with ``N`` words).

    Attributes:
        weight: ``W (V, H)``.
        visible_bias: ``b (V,)``.
        hidden_bias: ``c (H,)``.
        units: what the visible numbers are.
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    units: Units

    def hidden(self, visible: Tensor) -> Tensor:
        """``p(h = 1 | v) (n, H)`` of ``visible (n, V)``."""
        bias = self.hidden_bias
        if self.units == "softmax":
            bias = visible.sum(dim=1, keepdim=True) * bias
        return (visible @ self.weight + bias).sigmoid()

    def visible(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The mean of ``v`` given ``hidden (n, H)``: ``(n, V)``.

        Args:
            hidden: 0, 1 or probabilities.
            lengths: ``N (n, 1)``, of each text; for ``"softmax"`` only.
        """
        inputs = hidden @ self.weight.mT + self.visible_bias
        if self.units == "softmax":
            assert lengths is not None
            return lengths * inputs.softmax(dim=1)
        return inputs.sigmoid() if self.units == "binary" else inputs

    def reconstruction_error(self, visible: Tensor) -> Tensor:
        """The mean squared error of ``v → p(h) → v``, a scalar."""
        lengths = visible.sum(dim=1, keepdim=True)
        return (self.visible(self.hidden(visible), lengths) - visible).square().mean()


def contrastive_divergence(
    rbm: RBM, visible: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """How one step of Gibbs sampling (CD-1) would change weight and biases, ascending.

    ``h₀ ~ p(h | v₀)``, ``v₁ = E[v | h₀]``, ``h₁ = p(h | v₁)``; of the weight
    ``(v₀ᵀ p(h₀) - v₁ᵀ h₁) / n``. Only ``h₀`` is sampled (the guide, section 3).

    Args:
        rbm: the machine.
        visible: ``v₀ (n, V)``.
        generator: of the random numbers.

    Returns:
        Tensors in the shapes of ``W``, ``b`` and ``c``.
    """
    lengths = visible.sum(dim=1, keepdim=True)
    hidden = rbm.hidden(visible)
    model_visible = rbm.visible(torch.bernoulli(hidden, generator=generator), lengths)
    model_hidden = rbm.hidden(model_visible)
    n = len(visible)
    hidden_change = hidden - model_hidden
    if rbm.units == "softmax":
        hidden_change = lengths * hidden_change
    return (
        (visible.mT @ hidden - model_visible.mT @ model_hidden) / n,
        (visible - model_visible).mean(dim=0),
        hidden_change.mean(dim=0),
    )


def train_rbm(
    rows: Tensor,
    hidden: int,
    units: Units,
    epochs: int,
    generator: torch.Generator | None = None,
    on_epoch: Callable[[], object] = lambda: None,
) -> RBM:
    """A machine trained on rows, in batches of 100.

    Weights start at random with deviation 0.01; visible biases at the log odds of the means, or 0
    for real numbers. Learning rates are 0.1, for real numbers 0.001, and for words by the mean
    number of words lower, as their gradients are by that much higher; momentum is 0.5 in the first
    five epochs and then 0.9, weight decay 2e-4.

    Args:
        rows: ``(N, V)``; real ones standardised.
        hidden: ``H``.
        units: what their numbers are.
        epochs: passes over the rows.
        generator: of the random numbers, on the device of the rows.
        on_epoch: called after each pass.
    """
    rate = _RATES[units]
    means = rows.mean(dim=0)
    if units == "gaussian":
        bias = torch.zeros_like(means)
    elif units == "binary":
        bias = means.clamp(_SMALLEST_SHARE, 1 - _SMALLEST_SHARE).logit()
    else:
        bias = (means / means.sum()).clamp(min=_SMALLEST_SHARE).log()
        rate /= max(float(means.sum()), 1.0)
    weight = torch.empty(len(means), hidden, dtype=rows.dtype, device=rows.device)
    weight.normal_(0, _DEVIATION, generator=generator)
    rbm = RBM(weight, bias, weight.new_zeros(hidden), units)
    parameters = rbm.weight, rbm.visible_bias, rbm.hidden_bias
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    for epoch in range(epochs):
        momentum = _FIRST_MOMENTUM if epoch < _FIRST_EPOCHS else _MOMENTUM
        order = torch.randperm(len(rows), generator=generator, device=rows.device)
        for batch in order.split(BATCH):
            change, *changes = contrastive_divergence(rbm, rows[batch], generator)
            changes = [change - _DECAY * rbm.weight, *changes]
            for parameter, velocity, change in zip(parameters, velocities, changes, strict=True):
                parameter.add_(velocity.mul_(momentum).add_(rate * change))
        on_epoch()
    return rbm
