"""Sigmoid: of every pair, does it belong together?"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import Positive
from itm_lightning.objectives.base import Objective
from itm_lightning.objectives.comparison import Block, Comparison
from itm_lightning.objectives.functional import matching_losses
from itm_lightning.registry import register


@register("objective")
class Sigmoid(Objective):
    """``-1/B Σᵢⱼ log sigmoid(± (scale · score + bias))``: each pair is a yes or no of its own.

    SigLIP (Zhai, Mustafa, Kolesnikov, Beyer: "Sigmoid Loss for Language Image Pre-Training", ICCV
    2023, section 3.2 and algorithm 1). Scale (its logarithm) and bias are learnt. They start so
    that nearly all pairs are taken for negatives, as nearly all are. Another text of the same
    image is neither positive nor negative.

    No pair waits for another: where processes share a batch, texts go round from process to
    process, each of which scores its own images against one process's texts at a time (section
    3.3 there).

    Args:
        scale: what scores are multiplied by at the start.
        bias: what is added at the start.

    Raises:
        InputError: the scale is not positive.
    """

    def __init__(self, scale: Positive = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    @property
    def temperature(self) -> Tensor:
        """What scores are divided by: 1 / scale."""
        return (-self.log_scale).exp()

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        return comparison.sum_over_blocks(self._block_loss) / comparison.pairs

    def _block_loss(self, block: Block) -> Tensor:
        logits = block.scores * self.log_scale.exp() + self.bias
        return matching_losses(logits, block.positives).masked_fill(~block.valid, 0).sum()
