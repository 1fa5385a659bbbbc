"""DeepSemanticMapping: the classes of each side, and of both together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, NotNegative, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import class_cross_entropies, pooled_vectors
from itm_lightning.part import UsesLabels
from itm_lightning.registry import register
from itm_lightning.types import Widths


@register("objective")
class DeepSemanticMapping(UsesLabels, FeatureObjective):
    """Cross entropy of the classes of each side alone, and of both sides fused.

    After the RE-DNN of Wang, Yang, Meinel: "Deep Semantic Mapping for Cross-Modal Retrieval", ICTAI
    2015 (its abstract, the rest from memory). What the head compares is each side's *semantic
    layer*, one number for each class, whose softmax predicts the classes: the intra-modal
    regularisation. A network with one hidden layer, which belongs to the objective, predicts them
    from both semantic layers beside each other. It is trained on the pair, on the image with zeros
    for the text, and on the text with zeros for the image, in equal parts: either may be missing.
    Where an item has several classes, it has each in equal parts.

    Args:
        intra: weight of the two sides' own cross entropies.
        hidden: width of the network's hidden layer.
    """

    def __init__(self, intra: NotNegative = 1.0, hidden: Size = 64) -> None:
        super().__init__()
        self.intra, self.hidden = intra, hidden

    @override
    def build(self, widths: Widths) -> None:
        self._dim = widths.images

    @override
    def build_classes(self, count: int) -> None:
        if self._dim != count:
            raise InputError(
                f"DeepSemanticMapping compares one number for each class, but there are {count} "
                f"classes and the projections give {self._dim} numbers: set model.dim (or the dim "
                f"of the projections) to {count}"
            )
        layers = nn.Linear(2 * count, self.hidden), nn.ReLU(), nn.Linear(self.hidden, count)
        self.fusion = nn.Sequential(*layers)

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        images, texts = (pooled_vectors(x, self) for x in (comparison.images, comparison.texts))
        missing = torch.zeros_like(images)
        fused = [
            self.fusion(torch.cat(sides, dim=1))
            for sides in ((images, texts), (images, missing), (missing, texts))
        ]
        intra, joint = (
            torch.stack([class_cross_entropies(each, comparison.labels).sum() for each in logits])
            for logits in ((images, texts), fused)
        )
        return (self.intra * intra.sum() + joint.mean()) / comparison.pairs
