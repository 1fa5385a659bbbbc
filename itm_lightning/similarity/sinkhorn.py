"""Entropic optimal transport between the tokens of all pairs of a batch at once.

Of shares ``a`` and ``b`` and costs ``C``, the plan that transports all mass at the least cost, less
``ε`` times its entropy, is ``T = u exp(-C / ε) v``; Sinkhorn's algorithm finds ``u`` and ``v`` by
making the one's sums ``a`` and the other's ``b`` in turns (Cuturi: "Sinkhorn Distances: Lightspeed
Computation of Optimal Transport", NeurIPS 2013, section 4).

The cost of a region and a word is ``1 - cosine``. As it is bounded, so is the kernel, and what is
most work, its exponentials, is done once and not in every iteration: ``u`` and ``v`` are kept as
logarithms, and the largest is taken off before they meet the kernel.

Where less than all mass is transported, both sides get a dummy that takes the rest at one cost for
all, though nothing from the other dummy (Chapel, Alaya, Gasso: "Partial Optimal Transport with
Applications on Positive-Unlabeled Learning", NeurIPS 2020, proposition 1).
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

#: Below it, the kernel of the dearest pair, ``exp(-2 / ε)``, is no normal number in float32.
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
    those. The words' are exact, the regions' as far as the iterations come.

    Args:
        cosines: ``(N, R, M, L)``, of ``N`` photos and ``M`` captions.
        regions: the regions' shares ``(N, R)`` of 1; 0 at padding.
        words: the words' shares ``(M, L)`` of 1; 0 at padding.
        mass: how much to transport, in (0, 1].
        epsilon: the entropy's weight, at least :data:`SMALLEST_EPSILON`; smaller is nearer to the
            cheapest plan, and takes more iterations.
        iterations: how many times both sums are made right.
    """
    kernel = ((cosines - 1) / epsilon).exp().permute(0, 2, 3, 1).contiguous()
    a, b = regions.unsqueeze(1), words
    if mass < 1:
        # any cost will do: this one, of a cosine of 0, takes few iterations
        kernel = F.pad(kernel, (0, 1, 0, 1), value=math.exp(-1 / epsilon))
        kernel[..., -1, -1] = 0
        a, b = (F.pad(shares, (0, 1), value=1 - mass) for shares in (a, b))
    plan = sinkhorn(kernel, b, a, iterations)
    return plan[..., : words.shape[-1], : regions.shape[-1]].permute(0, 3, 1, 2)


def sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor, iterations: int) -> Tensor:
    """The plan ``(..., A, B)`` of a kernel ``exp(-C / ε) (..., A, B)``.

    Args:
        kernel: ``(..., A, B)``, in [0, 1].
        rows: what each row should sum to, ``(..., A)``; so it does.
        columns: what each column should sum to, ``(..., B)``; so it nearly does.
        iterations: how many times both sums are made right.
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
    # a row before a matrix: on a CPU far faster than a matrix before a column
    product = (logs - largest).exp().unsqueeze(-2) @ kernel
    return product.squeeze(-2).log() + largest
