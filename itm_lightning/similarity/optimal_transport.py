"""OptimalTransport: what it takes to turn a photo's regions into a caption's words."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.similarity.base import Aligning
from itm_lightning.similarity.sinkhorn import SMALLEST_EPSILON, transport_plan
from itm_lightning.similarity.unit_tokens import UnitTokens, UnitTokenSimilarity
from itm_lightning.types import Features


@register("similarity")
class OptimalTransport(Aligning, UnitTokenSimilarity):
    """``⟨T, S⟩``: the cosines ``S`` of regions and words, weighed by the plan ``T``.

    All real regions of a photo share a mass of 1, and so do all real words of a caption; ``T`` is
    the entropic plan that brings ``mass`` of one to the other (Cuturi, NeurIPS 2013; partial: see
    :mod:`itm_lightning.similarity.sinkhorn`). With the cost ``1 - S`` it is ``mass - ⟨T, 1 - S⟩``,
    as Chen et al. ("UNITER", ECCV 2020, section 3.2) align words and regions. A mass below 1 leaves
    regions that nobody mentions, and words that cannot be seen, without a partner. Gradients go
    through the plan.

    Args:
        mass: share that is transported, in (0, 1].
        epsilon: the entropy's weight; smaller is nearer to the cheapest plan.
        iterations: of Sinkhorn's algorithm; a smaller ``epsilon`` takes more.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(self, mass: float = 1.0, epsilon: float = 0.1, iterations: int = 30) -> None:
        super().__init__()
        if not 0 < mass <= 1:
            raise InputError(f"OptimalTransport: mass must be above 0 and at most 1, not {mass}")
        if epsilon < SMALLEST_EPSILON:
            raise InputError(
                f"OptimalTransport: epsilon must be at least {SMALLEST_EPSILON}, not {epsilon}"
            )
        if iterations < 1:
            raise InputError(f"OptimalTransport: iterations must be at least 1, not {iterations}")
        self.mass, self.epsilon, self.iterations = mass, epsilon, iterations

    @override
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        return (self._plan(cosines, images, texts) * cosines).sum(dim=(1, 3))

    def alignment(self, images: Features, texts: Features) -> Tensor:
        """The plan ``(n_images, n_texts, R, L)``; it sums to ``mass`` for each pair."""
        return self._plan(*self.compared(images, texts)).transpose(1, 2)

    def _plan(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        shares = [_shares(side.mask).to(cosines.dtype) for side in (images, texts)]
        return transport_plan(
            cosines, shares[0], shares[1], self.mass, self.epsilon, self.iterations
        )


def _shares(mask: Tensor) -> Tensor:
    """Equal shares ``(B, L)`` of 1 of the real tokens; of all, zero vectors, if none is real."""
    real = mask | ~mask.any(dim=-1, keepdim=True)
    return real / real.sum(dim=-1, keepdim=True)
