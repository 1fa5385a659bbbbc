"""JGRHML: projections regularised by a graph of the classes, solved in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import NotNegative, Positive, Size
from itm_lightning.part import UsesLabels
from itm_lightning.registry import register
from itm_lightning.similarity.cfa import singular_directions
from itm_lightning.similarity.moments import Directions, LinearDirections, Moments
from itm_lightning.types import Features, double


@register("similarity")
class JGRHML(UsesLabels, LinearDirections):
    """Cosine of projections that keep pairs together, and the members of a class.

    Joint graph regularised heterogeneous metric learning, Zhai, Peng, Xiao (AAAI 2013), the
    projections of its first step, with the settings of the authors' code. Its second step, which
    ranks over a graph of training and test items, is the protocol ``TransductiveClassMAP``.

    On standardised ``X`` and ``Y``, from the singular vectors ``P`` and ``Q`` of ``XᵀY``, one
    update ``P ← (γ₁ I + λ XᵀLX + XᵀX)⁻¹ XᵀY Q``, and the same of the other side: their code runs
    two rounds, and projects with what the second began with. ``L`` is the normalised Laplacian of
    the graph that joins pairs of one class. With the centred sum of squares ``S_c`` of a class of
    ``n_c`` pairs, ``XᵀLX = Σ_c n_c/(n_c−1) S_c``: sums by class and one pass are enough. Pairs of
    several classes (the authors have one each) are taken so, too: as the sum of the Laplacians of
    the classes.

    The pass keeps a matrix a class and side: ``8 C (p² + q²)`` bytes.

    Args:
        components: how many pairs of projections there are at most.
        image_ridge: γ₁ of the images' side.
        text_ridge: γ₂ of the texts'.
        graph: λ, how much the classes' graph counts.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(
        self,
        components: Size = 10,
        image_ridge: Positive = 1e4,
        text_ridge: Positive = 10.0,
        graph: NotNegative = 10.0,
    ) -> None:
        super().__init__(components)
        self.image_ridge, self.text_ridge, self.graph = image_ridge, text_ridge, graph

    @override
    @torch.no_grad()
    def observe(
        self, images: Features, texts: Features, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert labels is not None  # a fit gives them
        classes = double(labels)
        sums = Moments.sums(self.pooled(images), self.pooled(texts))
        sums["class_pairs"] = classes.sum(dim=0)
        for side, features in (("image", images), ("text", texts)):
            x = double(self.pooled(features))
            sums[f"{side}_class_sums"] = classes.T @ x
            # class by class: a batch times classes times width would be far larger
            squares = [x[of].T @ x[of] for of in labels.T]
            sums[f"{side}_class_squares"] = torch.stack(squares)
        return sums

    @override
    def directions(self, moments: Moments, sums: dict[str, Tensor]) -> Directions:
        scaled, v, t = moments.standardised()
        n = moments.pairs
        start = singular_directions(scaled.cross)
        within = {side: _laplacian_form(sums, side) for side in ("image", "text")}
        image = n * scaled.image + self.graph * within["image"] / torch.outer(v, v)
        text = n * scaled.text + self.graph * within["text"] / torch.outer(t, t)
        image += self.image_ridge * torch.eye(len(v)).to(image)
        text += self.text_ridge * torch.eye(len(t)).to(text)
        p = torch.linalg.solve(image, n * scaled.cross @ start.text)
        q = torch.linalg.solve(text, n * scaled.cross.T @ start.image)
        return Directions(p, q, start.strengths).unscaled(v, t)


def _laplacian_form(sums: dict[str, Tensor], side: str) -> Tensor:
    """``XᵀLX (d, d)`` of the classes' graphs; a class of one pair has none."""
    n = sums["class_pairs"].clamp(min=2)[:, None, None]
    total = sums[f"{side}_class_sums"]
    scatter = sums[f"{side}_class_squares"] - total[:, :, None] * total[:, None, :] / n
    several = (sums["class_pairs"] > 1)[:, None, None]
    return torch.where(several, n / (n - 1) * scatter, 0.0).sum(dim=0)
