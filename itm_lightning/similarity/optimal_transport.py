"""OptimalTransport: the cosines of regions and words, weighted by a transport plan."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register
from itm_lightning.similarity.base import Additive, Aligning
from itm_lightning.similarity.unit_tokens import UnitTokens, UnitTokenSimilarity
from itm_lightning.types import Features

#: Below it, the kernel of the most expensive pair, ``exp(-2 / ε)``, is no normal number in float32.
SMALLEST_EPSILON = 0.025


def transport_plan(
    cosines: Tensor,
    regions: Tensor,
    words: Tensor,
    mass: float,
    epsilon: float,
    iterations: int,
) -> Tensor:
    """The plan ``(N, R, M, L)`` that transports ``mass`` from regions to words.

    With a mass of 1 its sums over regions and over words are the shares; with less they are at most
    the shares. The sums of the words are exact, those of the regions approximate: more iterations
    make them more exact.

    Args:
        cosines: ``(N, R, M, L)``, of ``N`` images and ``M`` texts.
        regions: the regions' shares ``(N, R)`` of 1; 0 at padding.
        words: the words' shares ``(M, L)`` of 1; 0 at padding.
        mass: how much to transport, in (0, 1].
        epsilon: the entropy's weight, at least :data:`SMALLEST_EPSILON`; smaller is nearer to the
            cheapest plan, and takes more iterations.
        iterations: how many times both sums are corrected.
    """
    kernel = ((cosines - 1) / epsilon).exp().permute(0, 2, 3, 1).contiguous()
    a, b = regions.unsqueeze(1), words
    if mass < 1:
        # any cost is correct; this one, of a cosine of 0, needs few iterations
        kernel = F.pad(kernel, (0, 1, 0, 1), value=math.exp(-1 / epsilon))
        kernel[..., -1, -1] = 0
        a, b = (F.pad(shares, (0, 1), value=1 - mass) for shares in (a, b))
    plan = _Sinkhorn.apply(kernel, b.log(), a.log(), iterations)
    return plan[..., : words.shape[-1], : regions.shape[-1]].permute(0, 3, 1, 2)


class _Sinkhorn(torch.autograd.Function):
    """The plan ``(..., A, B)`` of a kernel ``exp(-C / ε) (..., A, B)``.

    Its arguments are the kernel, in [0, 1]; the logarithms of the sum of each row ``(..., A)``,
    which is met exactly, and of each column ``(..., B)``, met approximately; and how many times
    both sums are corrected. Only the kernel has a gradient: that of the iterations, run backwards.
    Autograd would add up a matrix for each of them, where here one product adds up all.
    """

    @staticmethod
    def forward(
        ctx: Any, kernel: Tensor, log_rows: Tensor, log_columns: Tensor, iterations: int
    ) -> Tensor:
        log_us, log_vs, of_columns, of_rows = [log_rows.expand(kernel.shape[:-1])], [], [], []
        for _ in range(iterations):
            of_columns.append(_log_product(log_us[-1], kernel))
            log_vs.append(log_columns - of_columns[-1])
            of_rows.append(_log_product(log_vs[-1], kernel.mT))
            log_us.append(log_rows - of_rows[-1])
        plan = (log_us[-1].unsqueeze(-1) + log_vs[-1].unsqueeze(-2)).exp() * kernel
        if any(ctx.needs_input_grad):
            stacks = (torch.stack(logs, -2) for logs in (log_us, log_vs, of_columns, of_rows))
            ctx.save_for_backward(kernel, *stacks)
        return plan

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernel, log_us, log_vs, of_columns, of_rows = ctx.saved_tensors
        u, v = log_us.exp(), log_vs.exp()
        scaling = u[..., -1, :].unsqueeze(-1) * v[..., -1, :].unsqueeze(-2)
        d_kernel = gradient * scaling
        d_plan = d_kernel * kernel
        d_log_u, d_log_v = d_plan.sum(dim=-1), d_plan.sum(dim=-2)
        # log u = log r - log(K v), log v = log c - log(u K): x and y are the gradients at K v, u K
        x, y = (-of_rows).exp_(), (-of_columns).exp_()
        for i in reversed(range(v.shape[-2])):
            x[..., i, :] *= -d_log_u
            d_log_v = d_log_v + v[..., i, :] * _product(x[..., i, :], kernel)
            y[..., i, :] *= -d_log_v
            d_log_u = u[..., i, :] * _product(y[..., i, :], kernel.mT)
            d_log_v = torch.zeros_like(d_log_v)
        d_kernel += x.mT @ v + u[..., :-1, :].mT @ y
        return d_kernel, None, None, None


def _log_product(logs: Tensor, kernel: Tensor) -> Tensor:
    """``log(exp(logs) kernel) (..., B)`` of ``logs (..., A)`` and ``kernel (..., A, B)``."""
    largest = logs.amax(dim=-1, keepdim=True)
    return _product((logs - largest).exp(), kernel).log() + largest


def _product(rows: Tensor, kernel: Tensor) -> Tensor:
    """``rows kernel (..., B)`` of ``rows (..., A)`` and ``kernel (..., A, B)``."""
    # row times matrix: on a CPU far faster than matrix times column
    return (rows.unsqueeze(-2) @ kernel).squeeze(-2)


@register("similarity")
class OptimalTransport(Aligning, Additive, UnitTokenSimilarity):
    """``⟨T, S⟩``: the cosines ``S`` of regions and words, weighted by the plan ``T``.

    All real regions of an image share a mass of 1, and so do all real words of a text; ``T`` is the
    entropic plan that brings ``mass`` of one to the other (Cuturi, NeurIPS 2013; partial: see
    :func:`transport_plan`). With the cost ``1 - S`` it is ``mass - ⟨T, 1 - S⟩``, as Chen et al.
    ("UNITER", ECCV 2020, section 3.2) align words and regions. With a mass below 1, regions that no
    word mentions, and words that are not visible, need no partner. Gradients pass through the plan.

    Args:
        mass: share that is transported, in (0, 1].
        epsilon: the entropy's weight; smaller is nearer to the cheapest plan.
        iterations: of Sinkhorn's algorithm; a smaller ``epsilon`` takes more.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(self, mass: float = 1.0, epsilon: float = 0.1, iterations: Size = 30) -> None:
        super().__init__()
        if not 0 < mass <= 1:
            raise InputError(f"OptimalTransport: mass must be above 0 and at most 1, not {mass}")
        if epsilon < SMALLEST_EPSILON:
            raise InputError(
                f"OptimalTransport: epsilon must be at least {SMALLEST_EPSILON}, not {epsilon}"
            )
        self.mass, self.epsilon, self.iterations = mass, epsilon, iterations

    @override
    @torch.compiler.disable  # which would unroll the iterations
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        return (self._plan(cosines, images, texts) * cosines).sum(dim=(1, 3))

    def alignment(self, images: Features, texts: Features) -> Tensor:
        """The plan ``(n_images, n_texts, R, L)``; it sums to ``mass`` for each pair."""
        return self._plan(*self.compared(images, texts)).transpose(1, 2)

    def contributions(self, images: Features, texts: Features) -> Tensor:
        """``T ∘ S (n_images, n_texts, R, L)``: what is transported, times its cosine."""
        cosines, regions, words = self.compared(images, texts)
        return (self._plan(cosines, regions, words) * cosines).transpose(1, 2)

    def _plan(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        shares = [_shares(side.mask).to(cosines.dtype) for side in (images, texts)]
        return transport_plan(
            cosines, shares[0], shares[1], self.mass, self.epsilon, self.iterations
        )


def _shares(mask: Tensor) -> Tensor:
    """Equal shares ``(B, L)`` of 1 of the real tokens; if none is real, of all tokens."""
    real = mask | ~mask.any(dim=-1, keepdim=True)
    return real / real.sum(dim=-1, keepdim=True)
