"""What an explanation refers to: the places of an image, the words of a text, and their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from itm_lightning.encoders import BagOfWords, ImageEncoder, TextEncoder
from itm_lightning.encoders.base import Encoder, Grid, Token, grid_of
from itm_lightning.encoders.vocabulary import UNKNOWN
from itm_lightning.errors import InputError
from itm_lightning.types import Features
from itm_lightning.utils.images import as_image

# -- images -----------------------------------------------------------------------------------

_NEAR_THE_EDGE = 0.02  # of the image's side: a crop is measured on pixels of 8 bits


@dataclass(frozen=True)
class RegionImage:
    """An image by its regions, for encoders that read regions, or a frozen trunk's tokens.

    Attributes:
        regions: one row.
        grid: where the regions lie on a grid.
        boxes: else their boxes ``(R, 4)``: left, top, right and bottom as shares of the image's
            width and height; ``None`` where they are unknown.
        image: the image itself; ``None`` where it is unknown.
    """

    regions: Features
    grid: Grid | None = None
    boxes: Tensor | None = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class Seen:
    """An image as an encoder sees it.

    Attributes:
        image: the part of the image that the encoder's transform keeps, in its own resolution.
        inputs: what the encoder reads: pixels ``(1, 3, H, W)`` or regions.
        encoded: the encoder's features of it, one row.
        grid: the places of the tokens.
        boxes: likewise, ``(R, 4)``; see :class:`RegionImage`.
    """

    image: Image.Image
    inputs: Tensor | Features
    encoded: Features
    grid: Grid | None
    boxes: Tensor | None

    @property
    def tokens(self) -> Tensor:
        """The image's tokens ``(1, L, D)``."""
        assert self.encoded.tokens is not None  # checked by :func:`seen`
        return self.encoded.tokens

    @property
    def mask(self) -> Tensor:
        """Their mask ``(1, L)``."""
        assert self.encoded.mask is not None
        return self.encoded.mask

    @property
    def first(self) -> int:
        """Index of the first token that has a place."""
        return self.grid.first if self.grid else 0


def seen(encoder: ImageEncoder, image: Any) -> Seen:
    """An image as the encoder sees it.

    Args:
        encoder: in evaluation mode.
        image: a path, a PIL image, an array or tensor of uint8, or a :class:`RegionImage`.

    Raises:
        InputError: the image cannot be read, or the encoder reads regions and these are none.
    """
    if isinstance(image, RegionImage):
        regions = image.regions.to(encoder.device) if _has_weights(encoder) else image.regions
        picture = image.image or Image.new("RGB", (320, 320), (128, 128, 128))
        if image.grid and image.image:
            picture = _cropped(encoder, picture)
        return Seen(picture, regions, encoder(regions), image.grid, image.boxes)
    picture = as_image(image)
    pixels = encoder.pixels([picture])
    assert isinstance(pixels, Tensor)  # of an image
    encoded = encoder(pixels)
    if encoded.tokens is None:
        raise InputError(f"{type(encoder).__name__} gives no tokens: an image's places are unknown")
    grid = grid_of(encoded.tokens.shape[1], *pixels.shape[-2:])
    return Seen(_cropped(encoder, picture), pixels, encoded, grid, None)


def _has_weights(encoder: Encoder) -> bool:
    return next(encoder.network.parameters(), None) is not None


def _cropped(encoder: ImageEncoder, picture: Image.Image) -> Image.Image:
    left, top, right, bottom = crop_of(encoder.transform(train=False), picture.size)
    width, height = picture.size
    box = round(left * width), round(top * height), round(right * width), round(bottom * height)
    return picture.crop(box)


def crop_of(
    transform: Callable[[Image.Image], Tensor], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of an image that a transform keeps, measured by an image of coordinates.

    Args:
        transform: resizes and crops; it changes no colours.
        size: width and height of the image.

    Returns:
        Left, top, right and bottom, as shares of the width and height.
    """
    width, height = size
    across = np.linspace(0.5 / width, 1 - 0.5 / width, width)
    down = np.linspace(0.5 / height, 1 - 0.5 / height, height)
    x, y = np.meshgrid(across, down)
    coordinates = np.stack([x, y, np.zeros_like(x)], axis=-1)
    pixels = transform(Image.fromarray((coordinates * 255).round().astype(np.uint8))) / 255
    left, right = _ends(pixels[0].mean(dim=0))
    top, bottom = _ends(pixels[1].mean(dim=1))
    return left, top, right, bottom


def _ends(coordinates: Tensor) -> tuple[float, float]:
    """Where pixels begin and end whose centres have these coordinates, which grow evenly."""
    n = len(coordinates)
    # not at the edges, where a resize that averages sees one side only
    first, last = n // 4, n - 1 - n // 4
    step = float(coordinates[last] - coordinates[first]) / (last - first)
    start = float(coordinates[first]) - (first + 0.5) * step
    ends = start, start + n * step
    return tuple(round(e) if abs(e - round(e)) < _NEAR_THE_EDGE else e for e in ends)  # type: ignore[return-value]


# -- words ------------------------------------------------------------------------------------


class Word(NamedTuple):
    """A word and the tokens that are its pieces.

    Attributes:
        text: the word; of a mark, such as start or end, the tokeniser's name for it.
        tokens: indices of its pieces.
        special: whether it is a mark, and not part of the text.
    """

    text: str
    tokens: tuple[int, ...]
    special: bool


def joined(tokens: Sequence[Token]) -> list[Word]:
    """The words of a text's tokens.

    WordPiece marks what continues a word (``##``); SentencePiece (``▁``) and byte-level BPE (``Ġ``)
    mark what begins one; CLIP's BPE marks what ends one (``</w>``).
    """
    pieces = [token.text for token in tokens if not token.special]
    begins = next((mark for mark in "▁Ġ" if any(p.startswith(mark) for p in pieces)), None)
    has_ends = any(piece.endswith("</w>") for piece in pieces)
    words: list[Word] = []
    goes_on = False  # whether the word is unfinished
    for number, (piece, special) in enumerate(tokens):
        if special:
            words.append(Word(piece or "(whole text)", (number,), True))
            goes_on = False
            continue
        continues = goes_on and (
            not piece.startswith(begins) if begins else has_ends or piece.startswith("##")
        )
        text = piece.removeprefix("##").removesuffix("</w>")
        text = text.removeprefix(begins) if begins else text
        if continues:
            text, indices = words[-1].text + text, (*words[-1].tokens, number)
            words[-1] = Word(text, indices, False)
        else:
            words.append(Word(text, (number,), False))
        goes_on = not (has_ends and piece.endswith("</w>"))
    return words


@dataclass(frozen=True)
class TextInputs:
    """A text as the numbers that its encoder starts from, one row a token, to be replaced.

    They are the word embeddings: of a recurrent network's or a transformer's later states, each
    has read the other words. Of :class:`~itm_lightning.encoders.BagOfWords` they are the columns
    that a word counts in.

    Attributes:
        values: ``(L, D)``.
        hidden: ``(L, D)``, the same with every word hidden: replaced by the encoder's unknown word
            or mask, and by zeros where it has neither. Marks such as start and end stay.
        first: index of the token of the first row.
        encode: the encoder's features of ``(N, L, D)``, for ``N`` versions of the text.
    """

    values: Tensor
    hidden: Tensor
    first: int
    encode: Callable[[Tensor], Features]


def text_inputs(encoder: TextEncoder, text: str) -> TextInputs:
    """The inputs of a text.

    Raises:
        InputError: the encoder has no table of word embeddings.
    """
    tokens = encoder.words([text])[0]
    if isinstance(encoder, BagOfWords):
        return _counted(encoder, text)
    table = _word_embeddings(encoder)
    values: list[Tensor] = []
    with torch.no_grad(), _output_of(table, values.append), with_gradient(encoder):
        encoder([text])
    first = len(tokens) - int(encoder.token_ids([text])[1].sum())
    embedded = values[0][0].detach()
    hidden = embedded.clone()
    number = encoder.hidden_id
    for row, token in enumerate(tokens[first:]):
        if not token.special:
            hidden[row] = 0 if number is None else table.weight[number].detach()

    def encode(replaced: Tensor) -> Features:
        with _output_of(table, lambda given: replaced), with_gradient(encoder):
            return encoder([text] * len(replaced))

    return TextInputs(embedded, hidden, first, encode)


def _word_embeddings(encoder: TextEncoder) -> nn.Embedding:
    """The encoder's table of word embeddings."""
    for module in encoder.modules():
        of_transformers: Any = getattr(module, "get_input_embeddings", None)
        if of_transformers is not None:
            return of_transformers()
    found = next((module for module in encoder.modules() if isinstance(module, nn.Embedding)), None)
    if found is None:
        raise InputError(
            f"{type(encoder).__name__} has no word embeddings (torch.nn.Embedding) that could be "
            "replaced: use --method contributions or alignment, with a head that has them"
        )
    return found


def _counted(encoder: BagOfWords, text: str) -> TextInputs:
    ids = encoder.token_ids([text])[0][0].to(encoder.device)
    columns = F.one_hot((ids - UNKNOWN - 1).clamp(min=0), encoder.dim)
    columns = (columns * (ids > UNKNOWN)[:, None]).to(encoder.column_weights)

    def encode(replaced: Tensor) -> Features:
        return encoder.weighted(replaced.sum(dim=1))

    return TextInputs(columns, torch.zeros_like(columns), 0, encode)


@contextmanager
def _output_of(module: nn.Module, replace: Callable[[Tensor], Any]) -> Iterator[None]:
    """Hands what the module returns to a function; what that returns, unless None, replaces it."""
    handle = module.register_forward_hook(lambda _, inputs, output: replace(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def with_gradient(encoder: Encoder) -> Iterator[None]:
    """Lets the gradient pass also where the trunk is frozen."""
    trainable, encoder.trainable = encoder.trainable, True
    try:
        yield
    finally:
        encoder.trainable = trainable
