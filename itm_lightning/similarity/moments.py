"""Heads that are linear directions of both sides, found from moments that one pass adds up."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.similarity.base import ClosedForm, InnerProductSimilarity
from itm_lightning.similarity.functional import of_width
from itm_lightning.types import Features, at_least_float32, double, unit

# A number that varies so little, relative to the most varying one, does not vary but by rounding.
_SMALLEST_VARIANCE = 1e-14


@dataclass(frozen=True)
class Moments:
    """Means and (population) covariances of pairs, float64.

    Attributes:
        pairs: how many, a scalar.
        image_mean: ``(p,)``.
        text_mean: ``(q,)``.
        image: covariance ``(p, p)`` of the images.
        text: covariance ``(q, q)`` of the texts.
        cross: covariance ``(p, q)`` of images with their texts.
    """

    pairs: Tensor
    image_mean: Tensor
    text_mean: Tensor
    image: Tensor
    text: Tensor
    cross: Tensor

    @staticmethod
    def sums(images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        """What is to be added up over batches of pairs, ``(B, p)`` and ``(B, q)``."""
        v, t = double(images), double(texts)
        return {
            "pairs": torch.tensor(float(len(v)), dtype=v.dtype, device=v.device),
            "image_sum": v.sum(dim=0),
            "text_sum": t.sum(dim=0),
            "image_image": v.T @ v,
            "text_text": t.T @ t,
            "image_text": v.T @ t,
        }

    @classmethod
    def of(cls, sums: dict[str, Tensor]) -> Moments:
        """From the sums over all pairs."""
        n = sums["pairs"]
        v, t = sums["image_sum"] / n, sums["text_sum"] / n
        return cls(
            pairs=n,
            image_mean=v,
            text_mean=t,
            image=sums["image_image"] / n - torch.outer(v, v),
            text=sums["text_text"] / n - torch.outer(t, t),
            cross=sums["image_text"] / n - torch.outer(v, t),
        )

    def standardised(self) -> tuple[Moments, Tensor, Tensor]:
        """Those of vectors divided by their deviations, and these ``(p,)`` and ``(q,)``.

        A number that does not vary is left as it is.
        """
        v, t = _deviations(self.image), _deviations(self.text)
        scaled = Moments(
            pairs=self.pairs,
            image_mean=self.image_mean / v,
            text_mean=self.text_mean / t,
            image=self.image / torch.outer(v, v),
            text=self.text / torch.outer(t, t),
            cross=self.cross / torch.outer(v, t),
        )
        return scaled, v, t


class Directions(NamedTuple):
    """Pairs of directions, the strongest first.

    Attributes:
        image: ``(p, k)``.
        text: ``(q, k)``.
        strengths: ``(k,)``, above 0: how much the two projections have in common, by the method.
    """

    image: Tensor
    text: Tensor
    strengths: Tensor

    def unscaled(self, image_deviations: Tensor, text_deviations: Tensor) -> Directions:
        """For the vectors as they are, of directions that were found for standardised ones.

        Args:
            image_deviations: ``(p,)``, see :meth:`Moments.standardised`.
            text_deviations: ``(q,)``.
        """
        image, text = self.image / image_deviations[:, None], self.text / text_deviations[:, None]
        return Directions(image, text, self.strengths)


class LinearDirections(ClosedForm, InnerProductSimilarity):
    """Cosine of centred vectors' projections onto pairs of directions, one a side.

    ``fit`` shows it all training pairs once; nothing is trained by gradient. It works on any
    encoders' pooled vectors, of whatever widths, and by default without projections. Where there
    are fewer pairs of directions than asked for, as where covariances lack rank, it says so, and
    the others are zero.

    Args:
        components: how many pairs of directions there are at most.

    Attributes:
        unsupported_precisions: half-precision weights would lose what the solution found.

    Raises:
        InputError: there is no component.
    """

    unsupported_precisions = ("bf16-true", "16-true")

    image_mean: nn.Parameter
    image_weight: nn.Parameter
    text_mean: nn.Parameter
    text_weight: nn.Parameter

    def __init__(self, components: Size) -> None:
        super().__init__()
        self.components = components
        self._solved = False

    @abstractmethod
    def directions(self, moments: Moments, sums: dict[str, Tensor]) -> Directions:
        """Solves it; at most :attr:`components` are kept.

        Args:
            moments: of all pairs.
            sums: all that :meth:`observe` gave, added up.
        """

    @override
    def build(self, image_dim: int, text_dim: int) -> None:
        # Parameters, as DistributedDataParallel wants some; no gradient is asked of them. Double:
        # what the solution is computed in.
        for side, dim in (("image", image_dim), ("text", text_dim)):
            mean = torch.zeros(dim, dtype=torch.float64)
            weight = torch.zeros(dim, self.components, dtype=torch.float64)
            setattr(self, f"{side}_mean", nn.Parameter(mean))
            setattr(self, f"{side}_weight", nn.Parameter(weight))
        self.strengths = nn.Parameter(torch.zeros(self.components, dtype=torch.float64))

    @override
    @torch.no_grad()
    def observe(
        self, images: Features, texts: Features, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        return Moments.sums(self.pooled(images), self.pooled(texts))

    @override
    @torch.no_grad()
    def solve(self, sums: dict[str, Tensor]) -> None:
        moments, name = Moments.of(sums), type(self).__name__
        directions = self.directions(moments, sums)
        found = min(self.components, len(directions.strengths))
        if found == 0:
            raise InputError(
                f"{name} found nothing that correlates: all images, or all texts, have the same "
                "features; use another encoder"
            )
        if found < self.components:
            warnings.warn(
                f"{name} found {found} components that correlate, of {self.components}: the "
                "features have no more",
                stacklevel=2,
            )
        for parameter, values in (
            (self.image_mean, moments.image_mean),
            (self.text_mean, moments.text_mean),
            (self.image_weight, directions.image[:, :found]),
            (self.text_weight, directions.text[:, :found]),
            (self.strengths, directions.strengths[:found]),
        ):
            parameter.zero_()
            parameter[..., : values.shape[-1]] = values

    @override
    def embed_images(self, images: Features) -> Tensor:
        """Components of length 1, ``(B, components)``."""
        return self._embedded(images, self.project_images(images))

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """Components of length 1, ``(B, components)``."""
        return self._embedded(texts, self.project_texts(texts))

    def project_images(self, images: Features) -> Tensor:
        """Components as they are, neither weighted nor of length 1: ``(B, components)`` float64."""
        return self._projected(images, self.image_mean, self.image_weight)

    def project_texts(self, texts: Features) -> Tensor:
        """Components as they are, neither weighted nor of length 1: ``(B, components)`` float64."""
        return self._projected(texts, self.text_mean, self.text_weight)

    def component_weights(self) -> Tensor | float:
        """What each component is multiplied by, ``(components,)``."""
        return 1.0

    def _embedded(self, features: Features, components: Tensor) -> Tensor:
        dtype = at_least_float32(self.pooled(features)).dtype
        return unit(components * self.component_weights()).to(dtype)

    def _projected(self, features: Features, mean: Tensor, weight: Tensor) -> Tensor:
        vectors = self.pooled(features)
        if not self._solved:
            self._solved = bool(self.strengths.any())
            if not self._solved:
                name = type(self).__name__
                raise InputError(f"{name} is not solved yet: fit it, or load a checkpoint of a fit")
        of_width(len(mean), vectors, self)
        return (double(vectors) - mean) @ weight


def _deviations(covariance: Tensor) -> Tensor:
    variances = covariance.diagonal()
    return variances.where(variances > _SMALLEST_VARIANCE * variances.max(), 1.0).sqrt()
