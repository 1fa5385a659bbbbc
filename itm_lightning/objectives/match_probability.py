"""MatchProbability: PCME++'s loss on expected distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.objectives.base import Objective, negatives_mask
from itm_lightning.objectives.functional import counted_pairs, matching_losses
from itm_lightning.precision import at_least_float32
from itm_lightning.registry import register


@register("objective")
class MatchProbability(Objective):
    """Cross entropy of the matching probability ``sigmoid(scale · score + shift)`` of each pair.

    PCME++ (Chun: "Improved Probabilistic Image-Text Representations", ICLR 2024): the mean over
    all pairs (equation 2), counted for each direction; and, with weight ``pseudo``, once more a
    direction with *pseudo-positives* (section 2.3), negatives that score at least as high as the
    query's positive and are taken to match: captions are annotated with one photo, and fit more.
    Another caption of the same photo is neither positive nor negative.

    Args:
        scale: what scores (minus distances) are multiplied by; learnt from there.
        shift: what is added; learnt from there.
        pseudo: PCME++'s α.
    """

    def __init__(self, scale: float = 5.0, shift: float = 5.0, pseudo: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.pseudo = pseudo

    @override
    def forward(
        self, scores: Tensor, image_ids: Tensor | None = None, text_image_ids: Tensor | None = None
    ) -> Tensor:
        positives, counted = counted_pairs(negatives_mask(scores, image_ids, text_image_ids))
        logits = at_least_float32(scores) * self.scale + self.shift

        def mean(matches: Tensor) -> Tensor:
            return matching_losses(logits, matches).masked_fill(~counted, 0).sum() / counted.sum()

        own = logits.diagonal()
        pseudo = mean(logits >= own[:, None]) + mean(logits >= own)
        return 2 * mean(positives) + self.pseudo * pseudo
