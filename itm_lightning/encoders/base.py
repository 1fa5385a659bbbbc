"""The base classes of encoders: images or texts in, Features out."""

from __future__ import annotations

import hashlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from itm_lightning.encoders.projection import NoProjection, Projection
from itm_lightning.errors import InputError
from itm_lightning.part import Part, to_config
from itm_lightning.pooling import MeanPooling, Pooling
from itm_lightning.types import Features
from itm_lightning.utils.images import as_image

_OF_TRAINING = ("trainable", "pooling", "projection", "augment")  # tokens do not depend on them
_MOST_OTHERS = 8  # tokens that precede a grid: class token and registers


class Token(NamedTuple):
    """A word of a text, or the tokeniser's piece of one.

    A special token is a mark, such as start or end, and not part of the text.
    """

    text: str
    special: bool


class Grid(NamedTuple):
    """The places of tokens: row by row, over the image as the encoder receives it.

    Attributes:
        rows: number of rows; the cells are square.
        columns: number of columns.
        first: index of the grid's first token; class token and registers before it have no place.
    """

    rows: int
    columns: int
    first: int


class Encoder(Part, nn.Module, ABC):
    """Turns images or texts into :class:`Features`.

    The sub-module ``network`` is its trunk, which may be pretrained and frozen.

    Args:
        trainable: whether the trunk is trained. A frozen trunk stays in evaluation mode.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        projection: maps the trunk's tokens before they are pooled, as in VSE∞; none by default.

    Attributes:
        dim: width of the tokens and of the pooled vector.
        trunk_dim: width of the trunk's tokens, before the projection.
    """

    dim: int
    trunk_dim: int
    network: nn.Module

    def __init__(
        self,
        trainable: bool = True,
        pooling: Pooling | None = None,
        projection: Projection | None = None,
    ) -> None:
        super().__init__()
        self.trainable = trainable
        self.pooling = MeanPooling() if pooling is None else pooling
        self.projection = NoProjection() if projection is None else projection

    def _adopt(self, network: nn.Module, dim: int) -> None:
        """Makes ``network`` the trunk, which gives tokens of width ``dim``."""
        self.network = network.requires_grad_(self.trainable)
        self.trunk_dim, self.dim = dim, self.projection.build(dim)
        self.pooling.build(self.dim)
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether the trunk is not trained."""
        return not self.trainable

    @property
    def device(self) -> torch.device:
        """The device of the trunk."""
        return next(self.network.parameters()).device

    def train(self, mode: bool = True) -> Encoder:
        """Sets the training mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.frozen and hasattr(self, "network"):
            self.network.eval()
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the trunk only: :func:`torch.compile` gains nothing in a tokeniser."""
        self.network.compile(*args, **kwargs)

    def _pooled(self, tokens: Tensor, mask: Tensor) -> Features:
        """The features that projection and pooling make of the trunk's tokens."""
        tokens = self.pooling.relate(self.projection.project(tokens), mask)
        return Features(tokens, mask, self.pooling(tokens, mask))

    def _trunk_gradient(self) -> torch.set_grad_enabled:
        """The context in which the trunk runs: without gradient where it is frozen."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.trainable)


class ImageEncoder(Encoder):
    """Turns images into :class:`Features`.

    Args:
        trainable: whether the trunk is trained.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        augment: crop and mirror the images in training. Mirroring swaps left and right: leave it
            off where texts distinguish them.
    """

    mean: Tensor
    std: Tensor
    weights_from: str | None = None
    """Name of the constructor's argument that only says where the weights come from, if any."""

    def __init__(
        self,
        trainable: bool = True,
        pooling: Pooling | None = None,
        augment: bool = False,
        projection: Projection | None = None,
    ) -> None:
        super().__init__(trainable, pooling, projection)
        self.augment = augment

    @abstractmethod
    def transform(self, train: bool) -> Callable[[Image.Image], Tensor]:
        """A picklable function from an RGB image to uint8 pixels ``(3, H, W)``."""

    def fingerprint(self) -> dict[str, Any] | None:
        """Identifies the tokens of this encoder's trunk; see :func:`fingerprint`."""
        return fingerprint(self)

    def pixels(self, images: Any) -> Tensor | Features:
        """What :meth:`forward` reads, of one image or of many.

        Args:
            images: pixels ``(B, 3, H, W)`` or features, which are returned unchanged; or a path, a
                PIL image, an array ``(H, W, 3)`` or a tensor ``(3, H, W)`` of uint8; or a sequence
                of such images, of any sizes.

        Raises:
            InputError: a file is missing or does not decode, or there is none.
        """
        if isinstance(images, Features) or (isinstance(images, Tensor) and images.ndim == 4):
            return images
        many = images if isinstance(images, list | tuple) else [images]
        if not many:
            raise InputError("there are no images: give at least one")
        transform = self.transform(train=False)
        return torch.stack([transform(as_image(image)) for image in many]).to(self.device)

    def grid(self) -> Grid | None:
        """The grid of the tokens, from a run on a black image; ``None`` where they have none."""
        was_training = self.training
        self.eval()
        with torch.no_grad():
            pixels = self.pixels(Image.new("RGB", (64, 64)))
            assert isinstance(pixels, Tensor)  # of an image
            grid = grid_of(self.trunk(pixels).shape[1], *pixels.shape[2:])
        self.train(was_training)
        return grid

    @abstractmethod
    def _tokens(self, pixels: Tensor) -> Tensor:
        """Tokens ``(B, L, D)`` of normalised ``pixels (B, 3, H, W)``."""

    def _normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the channels' mean and standard deviation, for pixels between 0 and 1."""
        for name, values in (("mean", mean), ("std", std)):
            channels = 255 * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, channels, persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalises uint8 ``pixels (B, 3, H, W)``; float pixels are normalised already."""
        if pixels.is_floating_point():
            return pixels
        return (pixels - self.mean) / self.std

    def trunk(self, pixels: Tensor) -> Tensor:
        """Tokens ``(B, L, D)`` of ``pixels (B, 3, H, W)``; a frozen trunk's may be stored."""
        with self._trunk_gradient():
            return self._tokens(self.normalise(pixels))

    def forward(self, images: Tensor | Features) -> Features:
        """Features of pixels ``(B, 3, H, W)``, or of the frozen trunk's tokens.

        Raises:
            InputError: the features have no tokens.
        """
        if isinstance(images, Features):
            if images.tokens is None or images.mask is None:
                raise InputError(f"{type(self).__name__} reads tokens; the features have none")
            tokens, mask = images.tokens.to(next(self.network.parameters()).dtype), images.mask
        else:
            tokens = self.trunk(images)
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return self._pooled(tokens, mask)


class TextEncoder(Encoder):
    """Turns raw texts into :class:`Features`; it has its own tokeniser."""

    @abstractmethod
    def forward(self, texts: list[str]) -> Features:
        """Features of ``B`` texts."""

    @abstractmethod
    def token_ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids ``(B, L)`` int64 of the texts' tokens, without noise, and mask ``(B, L)`` bool."""

    @abstractmethod
    def words(self, texts: list[str]) -> list[list[Token]]:
        """The strings of each text's tokens: as many as its features have real tokens."""

    @property
    def hidden_id(self) -> int | None:
        """The id that stands for a word that is hidden: unknown, or masked; ``None`` without."""
        return None

    @property
    def unknown_id(self) -> int | None:
        """The id of words that the vocabulary lacks; ``None`` where it lacks none."""
        return None

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are cut, because they are longer than the encoder reads."""
        return 0

    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary from the training texts, if the encoder has one to learn."""


def grid_of(tokens: int, height: int, width: int) -> Grid | None:
    """The grid of square cells over an image that the last tokens form; ``None`` if they form none.

    Args:
        tokens: how many tokens there are, those before the grid included.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    for first in range(min(tokens, _MOST_OTHERS + 1)):
        rows = math.isqrt((tokens - first) * height // width)
        columns, rest = divmod(tokens - first, rows) if rows else (0, 1)
        if not rest and rows * width == columns * height:
            return Grid(rows, columns, first)
    return None


def fingerprint(encoder: ImageEncoder) -> dict[str, Any]:
    """Everything that a trunk's tokens depend on, in plain values for JSON.

    The encoder's pooling, its training and the path of its weights do not matter.
    """
    cls = type(encoder)
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "arguments": _arguments(encoder),
        "transform": " ".join(repr(encoder.transform(train=False)).split()),
        "normalisation": [encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()],
        "tensors": tensors_sha256(encoder.network),
    }


def tensors_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers: their names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor  # a collective
        numbers = tensor.detach().cpu().contiguous().reshape(-1)  # in the order of their indices
        digest.update(numbers.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _arguments(encoder: ImageEncoder) -> dict[str, Any]:
    """The constructor's arguments that the tokens depend on, defaults included."""
    bound = inspect.signature(type(encoder).__init__).bind_partial(encoder, **encoder._init_args)
    bound.apply_defaults()
    skipped = {"self", encoder.weights_from, *_OF_TRAINING}
    return {k: to_config(v) for k, v in bound.arguments.items() if k not in skipped}
