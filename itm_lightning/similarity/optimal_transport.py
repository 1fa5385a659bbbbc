"""OptimalTransport: the cosines of regions and words, weighted by a transport plan."""

from __future__ import annotations

import math

from torch import Tensor
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
    plan = sinkhorn(kernel, b, a, iterations)
    return plan[..., : words.shape[-1], : regions.shape[-1]].permute(0, 3, 1, 2)


def sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor, iterations: int) -> Tensor:
    """The plan ``(..., A, B)`` of a kernel ``exp(-C / ε) (..., A, B)``.

    Args:
        kernel: ``(..., A, B)``, in [0, 1].
        rows: the sum of each row, ``(..., A)``; met exactly.
        columns: the sum of each column, ``(..., B)``; met approximately.
        iterations: how many times both sums are corrected.
    """
    log_rows, log_columns = rows.log(), columns.log()
    log_u = log_rows
    for _ in range(iterations):
        log_v = log_columns - _log_product(log_u, kernel)
        log_u = log_rows - _log_product(log_v, kernel.mT)
    return (log_u.unsqueeze(-1) + log_v.unsqueeze(-2)).exp() * kernel


def _log_product(logs: Tensor, kernel: Tensor) -> Tensor:
    """``log(exp(logs) kernel) (..., B)`` of ``logs (..., A)`` and ``kernel (..., A, B)``."""
    largest = logs.detach().amax(dim=-1, keepdim=True)
    # row times matrix: on a CPU far faster than matrix times column
    product = (logs - largest).exp().unsqueeze(-2) @ kernel
    return product.squeeze(-2).log() + largest


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
