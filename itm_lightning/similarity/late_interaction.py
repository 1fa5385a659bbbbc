"""Late interaction: every token of one side finds its match among those of the other.

Cosines are laid out ``(N, R, M, L)``, ``N`` photos of ``R`` regions and ``M`` captions of ``L``
words: see :func:`itm_lightning.similarity.unit_tokens.cosines`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.similarity.unit_tokens import UnitTokens

#: Stands for the cosine of padding: nobody's nearest, and no score is infinite for it.
BELOW_ALL = -2.0

_REGIONS, _WORDS = 1, 3  # dimensions

#: ``(cosines, dim)`` to what each token finds along ``dim``.
Match = Callable[[Tensor, int], Tensor]
#: ``(matches (..., A), mask of who asks)`` to scores ``(...)``.
Aggregate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Direction:
    """Who asks whom.

    Attributes:
        words_ask: words ask regions (``t2i``); else regions ask words (``i2t``).
    """

    words_ask: bool

    def scores(
        self,
        cosines: Tensor,
        images: UnitTokens,
        texts: UnitTokens,
        match: Match,
        aggregate: Aggregate,
    ) -> Tensor:
        """Scores ``(N, M)`` that aggregate what each asking token finds."""
        if self.words_ask:
            return aggregate(match(cosines, _REGIONS), texts.mask)
        return aggregate(match(cosines, _WORDS).mT, images.mask.unsqueeze(1))

    def nearest(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """``(N, M, R, L)``: 1 where the largest cosine of an asking token is, else 0."""
        asked = _REGIONS if self.words_ask else _WORDS
        asking = texts.mask if self.words_ask else images.mask[:, :, None, None]
        places = cosines.argmax(asked, keepdim=True)
        return (torch.zeros_like(cosines).scatter_(asked, places, 1) * asking).transpose(1, 2)


T2I, I2T = Direction(words_ask=True), Direction(words_ask=False)
DIRECTIONS = {"t2i": (T2I,), "i2t": (I2T,), "both": (T2I, I2T)}


def largest(cosines: Tensor, dim: int) -> Tensor:
    """The largest cosine: a :data:`Match`."""
    return cosines.amax(dim)
