"""MaxSim: each word is matched with its nearest region, or each region with its nearest word."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.attention import AGGREGATOR_WEIGHTS, AGGREGATORS
from itm_lightning.similarity.base import Additive, Aligning
from itm_lightning.similarity.functional import chosen
from itm_lightning.similarity.unit_tokens import (
    BELOW_ALL,
    DIRECTIONS,
    UnitTokens,
    UnitTokenSimilarity,
    hide_padding,
    largest,
)
from itm_lightning.types import Features

_AGGREGATES = {n: (AGGREGATORS[n], AGGREGATOR_WEIGHTS[n]) for n in ("Mean", "Sum")}


@register("similarity")
class MaxSim(Aligning, Additive, UnitTokenSimilarity):
    """``Σ_i max_j cos(q_i, c_j)``, or the mean over the query tokens ``q_i``.

    Khattab, Zaharia: "ColBERT: Efficient and Effective Passage Search via Contextualized Late
    Interaction over BERT", SIGIR 2020 (section 3.3, equation 3): the sum, over the query's tokens.
    Yao et al.: "FILIP: Fine-grained Interactive Language-Image Pre-Training", ICLR 2022 (section
    3.1, "Cross-modal late interaction"): the mean over the real tokens, so that texts of any length
    can be ranked, and both sides are queries.

    Args:
        direction: ``"t2i"`` (words are the queries), ``"i2t"`` (regions are the queries), or
            ``"both"``, the mean of the two.
        aggregate: ``"Mean"`` or ``"Sum"``.

    Raises:
        InputError: a name is unknown; the message lists the known ones.
    """

    def __init__(self, direction: str = "both", aggregate: str = "Mean") -> None:
        super().__init__()
        self._directions = chosen(self, "direction", direction, DIRECTIONS)
        aggregates = chosen(self, "aggregate", aggregate, _AGGREGATES)
        self._aggregate_all, self._weigh_all = aggregates

    @override
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        cosines = hide_padding(cosines, images, texts, BELOW_ALL)
        scores = [
            direction.scores(cosines, images, texts, largest, self._aggregate)
            for direction in self._directions
        ]
        return torch.stack(scores).mean(dim=0)

    def alignment(self, images: Features, texts: Features) -> Tensor:
        """``(n_images, n_texts, R, L)``: 1 at the nearest token of each query, else 0.

        With ``both`` it is the mean of the two directions: 1 where each is the other's nearest.
        """
        cosines, regions, words = self.compared(images, texts)
        cosines = hide_padding(cosines, regions, words, BELOW_ALL)
        nearest = [direction.nearest(cosines, regions, words) for direction in self._directions]
        return torch.stack(nearest).mean(dim=0)

    def contributions(self, images: Features, texts: Features) -> Tensor:
        """``(n_images, n_texts, R, L)``: each query's largest cosine, by its share, at its place.

        The share is 1, or 1 over the number of query tokens; with ``both`` the parts are the mean
        of the two directions.
        """
        cosines, regions, words = self.compared(images, texts)
        hidden = hide_padding(cosines, regions, words, BELOW_ALL)
        parts = [
            each.parts(cosines, each.nearest(hidden, regions, words), regions, words, self._weigh)
            for each in self._directions
        ]
        return torch.stack(parts).mean(dim=0)

    def _aggregate(self, matches: Tensor, mask: Tensor) -> Tensor:
        return self._aggregate_all(matches, mask, 1.0)  # neither has a temperature

    def _weigh(self, matches: Tensor, mask: Tensor) -> Tensor:
        return self._weigh_all(matches, mask, 1.0)
