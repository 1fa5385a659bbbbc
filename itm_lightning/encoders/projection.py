"""Projections: from an encoder's width into the space in which images and texts are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, Share, Size
from itm_lightning.part import Part
from itm_lightning.registry import register
from itm_lightning.types import Features

_ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Projection(Part, nn.Module, ABC):
    """Maps tokens and pooled vectors alike, each vector by itself.

    A subclass writes :meth:`build` and :meth:`project`.
    """

    @abstractmethod
    def build(self, in_dim: int) -> int:
        """Makes the weights; the Matcher calls it once, with the width that it projects from.

        Args:
            in_dim: width of the vectors that it will be given.

        Returns:
            The width of the projected vectors.
        """

    @abstractmethod
    def project(self, vectors: Tensor) -> Tensor:
        """Vectors ``(…, in_dim)`` to ``(…, dim)``."""

    def forward(self, features: Features) -> Features:
        """Projects the tokens and the pooled vectors that the features hold."""
        tokens, pooled = features.tokens, features.pooled
        return Features(
            None if tokens is None else self.project(tokens),
            features.mask,
            None if pooled is None else self.project(pooled),
        )


@register("projection")
class LinearProjection(Projection):
    """One linear map, after dropout.

    Args:
        dim: width of the projected vectors.
        dropout: share of the encoder's channels set to zero in training.
        standardise: brings each channel to mean 0 and variance 1 first, by batch normalisation
            without weights (over all vectors of a batch, padding included). Pretrained channels
            differ in scale by factors of ten, and so would their dropout and their weight decay.

    Raises:
        InputError: ``dim`` is below 1.
    """

    def __init__(self, dim: Size = 512, dropout: Share = 0.0, standardise: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.dropout = nn.Dropout(dropout)
        self.standardises = standardise

    @override
    def build(self, in_dim: int) -> int:
        self.standardise = nn.BatchNorm1d(in_dim, affine=False) if self.standardises else None
        self.linear = _linear(in_dim, self.dim)
        return self.dim

    @override
    def project(self, vectors: Tensor) -> Tensor:
        if self.standardise is not None:
            vectors = self.standardise(vectors.reshape(-1, vectors.shape[-1])).view_as(vectors)
        return self.linear(self.dropout(vectors))


@register("projection")
class NoProjection(Projection):
    """Leaves the encoder's features as they are.

    For pretrained pairs of encoders that share a space (CLIP, SigLIP), and for heads that find the
    space themselves (CCA).
    """

    @override
    def build(self, in_dim: int) -> int:
        return in_dim

    @override
    def project(self, vectors: Tensor) -> Tensor:
        return vectors

    @override
    def forward(self, features: Features) -> Features:
        return features


@register("projection")
class MLPProjection(Projection):
    """A network with hidden layers: linear, activation, dropout, ``layers`` times, then linear.

    VSE∞ (Chen et al. 2021) has one hidden layer of half the width, ``batch_norm`` and ``skip``.

    Args:
        dim: width of the projected vectors.
        hidden: width of the hidden layers.
        layers: how many hidden layers there are.
        dropout: share of the channels set to zero in training, before each linear map.
        batch_norm: batch normalisation before each activation, over all vectors of a batch, padding
            included.
        skip: adds a linear map of the vectors to what the network makes of them.
        activation: of the hidden layers.

    Raises:
        InputError: a width or ``layers`` is below 1, or the activation is unknown.
    """

    def __init__(
        self,
        dim: Size = 512,
        hidden: Size = 1024,
        layers: Size = 1,
        dropout: Share = 0.0,
        batch_norm: bool = False,
        skip: bool = False,
        activation: Literal["relu", "sigmoid"] = "relu",
    ) -> None:
        super().__init__()
        self.dim = dim
        if activation not in _ACTIVATIONS:
            raise InputError(
                f"MLPProjection: there is no activation {activation!r}; use one of "
                f"{list(_ACTIVATIONS)}"
            )
        self.hidden, self.layers, self.dropout = hidden, layers, dropout
        self.batch_norm, self.skips, self.activation = batch_norm, skip, activation

    @override
    def build(self, in_dim: int) -> int:
        hidden: list[nn.Module] = []
        for width in [in_dim, *[self.hidden] * (self.layers - 1)]:
            hidden += [nn.Dropout(self.dropout), _linear(width, self.hidden)]
            hidden += [nn.BatchNorm1d(self.hidden)] * self.batch_norm
            hidden += [_ACTIVATIONS[self.activation]()]
        last = nn.Dropout(self.dropout), _linear(self.hidden, self.dim)
        self.network = nn.Sequential(*hidden, *last)
        self.skip = _linear(in_dim, self.dim) if self.skips else None
        return self.dim

    @override
    def project(self, vectors: Tensor) -> Tensor:
        rows = vectors.reshape(-1, vectors.shape[-1])  # what batch normalisation reads
        projected = self.network(rows)
        if self.skip is not None:
            projected = projected + self.skip(rows)
        return projected.view(*vectors.shape[:-1], self.dim)


def build_projections(
    image_dim: int,
    image_projection: Projection,
    text_dim: int,
    text_projection: Projection,
    shared_projection: Projection,
) -> tuple[int, int]:
    """Builds the projections of both sides, and the one that follows both.

    Args:
        image_dim: width of the image encoder's features.
        image_projection: applied to them.
        text_dim: width of the text encoder's features.
        text_projection: applied to them.
        shared_projection: applied to what either projection gives.

    Returns:
        The widths of projected images and of projected texts.

    Raises:
        InputError: the shared projection would be given two widths.
    """
    image_dim, text_dim = image_projection.build(image_dim), text_projection.build(text_dim)
    if isinstance(shared_projection, NoProjection):
        return image_dim, text_dim
    if image_dim != text_dim:
        raise InputError(
            f"model.shared_projection needs one width, but the images' projection gives "
            f"{image_dim} and the texts' {text_dim}: give both projections the same dim"
        )
    dim = shared_projection.build(image_dim)
    return dim, dim


def _linear(in_dim: int, out_dim: int) -> nn.Linear:
    linear = nn.Linear(in_dim, out_dim)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
