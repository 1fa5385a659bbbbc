"""Encoders of vectors that a source already has: bags of visual words, topics, CNN features, …."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.encoders.base import Encoder, TextEncoder, Token
from itm_lightning.encoders.region_features import GivenFeatures
from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register
from itm_lightning.types import Features

# A number that hardly varies in training would be scaled up to what is rounding.
_SMALLEST_DEVIATION = 1e-8


class _Vectors(Encoder):
    """Passes vectors on, standardised where asked; they have no tokens.

    Args:
        dim: width of the vectors.
        standardise: subtract each number's mean over the training split and divide by its
            (population) deviation there.

    Raises:
        InputError: ``dim`` is below 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: Size, standardise: bool = False) -> None:
        super().__init__(trainable=False)
        self.standardise = standardise
        self._adopt(nn.Identity(), dim)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    @property
    @override
    def device(self) -> torch.device:
        return self.mean.device

    def learn_statistics(self, vectors: Tensor) -> None:
        """Sets mean and deviation from the training vectors ``(N, dim)``, where asked to."""
        self._checked(vectors)
        if self.standardise:
            values = vectors.double()
            self.mean.copy_(values.mean(dim=0))
            deviation = values.std(dim=0, correction=0)
            self.deviation.copy_(deviation.where(deviation > _SMALLEST_DEVIATION, 1.0))

    def _passed_on(self, vectors: Tensor) -> Features:
        vectors = self._checked(vectors).to(self.mean)
        return Features.from_pooled((vectors - self.mean) / self.deviation)

    def _checked(self, vectors: Tensor) -> Tensor:
        if vectors.shape[-1] != self.dim:
            raise InputError(
                f"{type(self).__name__}: dim is {self.dim}, but the vectors are "
                f"{vectors.shape[-1]} wide: set dim: {vectors.shape[-1]}"
            )
        return vectors


@register("image_encoder")
class ImageVectors(_Vectors, GivenFeatures):
    """One vector an image, as the source has it.

    Args:
        dim: width of the vectors.
        standardise: subtract each number's mean over the training split and divide by its
            (population) deviation there.

    Raises:
        InputError: ``dim`` is below 1.
    """

    augment = False
    reads, source = "vectors", "Paired"

    @override
    def forward(self, images: Tensor | Features) -> Features:
        """Vectors ``(B, dim)`` of the one token that each image has.

        Raises:
            InputError: the images are pixels, have several tokens, or another width.
        """
        if not isinstance(images, Features) or images.tokens is None:
            self._refuse_images()
        if images.tokens.shape[1] != 1:
            raise InputError(
                f"ImageVectors reads one vector an image, but there are {images.tokens.shape[1]}: "
                "use RegionFeatures"
            )
        return self._passed_on(images.tokens[:, 0])


@register("text_encoder")
class TextVectors(_Vectors, TextEncoder):
    """One vector a text, as the source has it; there are no words.

    Args:
        dim: width of the vectors.
        standardise: subtract each number's mean over the training split and divide by its
            (population) deviation there.

    Raises:
        InputError: ``dim`` is below 1.
    """

    @override
    def forward(self, texts: list[str] | Features) -> Features:
        """Vectors ``(B, dim)`` of the texts' pooled vectors.

        Raises:
            InputError: the texts are strings, or the vectors have another width.
        """
        if not isinstance(texts, Features) or texts.pooled is None:
            raise InputError(
                "TextVectors reads vectors, not texts: set data.source to Paired, or "
                "model.text_encoder to an encoder of texts"
            )
        return self._passed_on(texts.pooled)

    @override
    def token_ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        raise InputError("TextVectors has no words: use an objective that reads none")

    @override
    def words(self, texts: list[str]) -> list[list[Token]]:
        raise InputError("TextVectors has no words: explain needs a text encoder that has")
