"""SemanticMatching: how alike the classes are that classifiers see in both sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, NotNegative, Positive, Size
from itm_lightning.part import UsesLabels
from itm_lightning.registry import register
from itm_lightning.similarity.base import ClosedForm, InnerProductSimilarity
from itm_lightning.similarity.cca import canonical_directions
from itm_lightning.similarity.functional import of_width
from itm_lightning.similarity.moments import Moments
from itm_lightning.types import Features, at_least_float32, double, unit

_STEPS = 1000
_TOLERANCE = 1e-8  # of the largest number of the gradient, of the mean loss


@register("similarity")
class SemanticMatching(UsesLabels, ClosedForm, InnerProductSimilarity):
    """Cosine of the posteriors of two classifiers, one a side.

    Semantic matching (SM) of Rasiwasia et al., "A New Approach to Cross-Modal Multimedia
    Retrieval" (ACM MM 2010): multinomial logistic regression of the classes, on images and on
    texts; with ``components``, on their canonical components (semantic correlation matching, SCM).
    They compare posteriors by several measures and found normalised correlation, the cosine, best.

    ``fit`` shows it all training pairs once, and they stay in memory, as the regressions pass over
    them many times. A pair of several classes counts for each of them by an equal share, and one
    without classes does not count. Directions without variance are left out by the CCA, which
    says so.

    Args:
        C: weight of the loss (the sum over pairs) against half the sum of squared weights, as in
            scikit-learn. It matters most where features are tiny, as histograms are: then it should
            be large, or the encoders should standardise.
        components: of the CCA before the classifiers; none where ``None``.
        ridge: of that CCA, see :class:`~itm_lightning.similarity.CCA`.
        centred: subtract each posterior's mean first, so that a posterior which knows nothing is
            like no other (normalised correlation, in the strict sense).

    Attributes:
        unsupported_precisions: half-precision weights would lose what the solution found.

    Raises:
        InputError: a number is out of its range.
    """

    unsupported_precisions = ("bf16-true", "16-true")
    joined = ("images", "texts", "labels")

    image_weight: nn.Parameter
    image_bias: nn.Parameter
    text_weight: nn.Parameter
    text_bias: nn.Parameter

    def __init__(
        self,
        C: Positive = 30.0,  # noqa: N803, scikit-learn's name
        components: Size | None = None,
        ridge: NotNegative = 0.0,
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.C, self.components, self.ridge, self.centred = C, components, ridge, centred
        self._solved = False

    @override
    def build(self, image_dim: int, text_dim: int) -> None:
        self._dims = {"image": image_dim, "text": text_dim}
        self.build_classes(0)

    @override
    def build_classes(self, count: int) -> None:
        for side, dim in self._dims.items():
            weight = torch.zeros(dim, count, dtype=torch.float64)
            setattr(self, f"{side}_weight", nn.Parameter(weight))
            setattr(self, f"{side}_bias", nn.Parameter(weight.new_zeros(count)))

    @override
    def observe(
        self, images: Features, texts: Features, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert labels is not None  # a fit gives them
        return {"images": self.pooled(images), "texts": self.pooled(texts), "labels": labels}

    @override
    @torch.no_grad()
    def solve(self, sums: dict[str, Tensor]) -> None:
        images, texts, labels = (double(sums[name]) for name in self.joined)
        labelled = labels.any(dim=1)
        targets = labels[labelled] / labels[labelled].sum(dim=1, keepdim=True)
        sides = {"image": images, "text": texts}
        maps = {side: torch.eye(rows.shape[1]).to(rows) for side, rows in sides.items()}
        if self.components is not None:
            moments = Moments.of(Moments.sums(images, texts))
            found = canonical_directions(moments.image, moments.text, moments.cross, self.ridge)
            maps = {
                "image": found.image[:, : self.components],
                "text": found.text[:, : self.components],
            }
        for side, rows in sides.items():
            mean = rows.mean(dim=0)
            projected = (rows[labelled] - mean) @ maps[side]
            weight, bias = logistic_regression(projected, targets, self.C)
            weight = maps[side] @ weight
            getattr(self, f"{side}_weight").copy_(weight)
            getattr(self, f"{side}_bias").copy_(bias - mean @ weight)

    @override
    def embed_images(self, images: Features) -> Tensor:
        """Posteriors of length 1, ``(B, C)``."""
        return self._embedded(images, self.image_weight, self.image_bias)

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """Posteriors of length 1, ``(B, C)``."""
        return self._embedded(texts, self.text_weight, self.text_bias)

    def _embedded(self, features: Features, weight: Tensor, bias: Tensor) -> Tensor:
        vectors = at_least_float32(self.pooled(features))
        if not self._solved:
            self._solved = bool(weight.any())
            if not self._solved:
                raise InputError(
                    "SemanticMatching is not solved yet: fit it, or load a checkpoint of a fit"
                )
        of_width(len(weight), vectors, self)
        posteriors = (double(vectors) @ weight + bias).softmax(dim=1)
        if self.centred:
            posteriors = posteriors - posteriors.mean(dim=1, keepdim=True)
        return unit(posteriors).to(vectors.dtype)


def logistic_regression(rows: Tensor, targets: Tensor, C: float) -> tuple[Tensor, Tensor]:  # noqa: N803
    """Multinomial logistic regression with an L2 penalty, by L-BFGS.

    Minimises ``C Σ_i −Σ_c t_ic log p_ic + ½ ‖W‖²``, the bias not penalised, as scikit-learn's
    ``LogisticRegression`` does.

    Args:
        rows: ``(N, d)`` float64.
        targets: ``(N, C)`` float64, shares of the classes, which sum to 1.
        C: weight of the loss against the penalty.

    Returns:
        ``W (d, C)`` and the bias ``(C,)``.
    """
    scale = C * len(rows)
    # In these coordinates the curvature is about 1 in every direction, also where features are tiny
    # or alike; the objective is the same.
    variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    lengths = (variances.clamp(min=0) + 1 / scale).rsqrt()[:, None]
    turned = rows @ directions * lengths.T
    weight = rows.new_zeros(rows.shape[1], targets.shape[1], requires_grad=True)
    bias = rows.new_zeros(targets.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_STEPS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    @torch.enable_grad()
    def objective() -> Tensor:
        optimizer.zero_grad()
        log_posteriors = (turned @ weight + bias).log_softmax(dim=1)
        penalty = (lengths * weight).square().sum() / 2 / scale
        loss = penalty - (targets * log_posteriors).sum(dim=1).mean()
        loss.backward()
        return loss

    optimizer.step(objective)
    return directions @ (lengths * weight.detach()), bias.detach()
