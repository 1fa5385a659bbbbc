"""Heads on the cosines of tokens, and the tiles in which a score matrix fits into memory.

:class:`UnitTokenSimilarity` is the base of these heads; :class:`Direction` holds what those have in
common that match each token of one side with the other side. A pair of an image and a text takes as
many numbers as it has pairs of tokens, so that the matrix is computed tile by tile:
:func:`in_tiles`, and :func:`slices` for heads that combine pooled vectors pair by pair.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from itm_lightning.similarity.base import TokenSimilarity, inner_products
from itm_lightning.types import Features, Rows, RowsT, at_least_float32, full_precision, unit_tokens
from itm_lightning.utils.internals import processor_multiplies_bfloat16

# What is computed of a tile should stay in the cache, and its matrices should not be narrow strips.
_TILE_CPU_ELEMENTS = 2**20
_TILE_GPU_ELEMENTS = 2**26  # 256 MB: less would not keep the GPU busy
_SLICE_CPU_ELEMENTS = 2**17  # 512 KB in float32, which fits the cache of one core
_SLICE_GPU_ELEMENTS = 2**24  # 64 MB: less would not keep the GPU busy

UnitTokensT = TypeVar("UnitTokensT", bound="UnitTokens")


@dataclass(frozen=True)
class UnitTokens(Rows):
    """One side, prepared for cosines.

    Attributes:
        tokens: ``(B, L, D)`` of length 1, zero at padding.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
    """

    tokens: Tensor
    mask: Tensor

    def trim(self: UnitTokensT) -> UnitTokensT:
        """Drops the columns of padding that no row of this batch needs."""
        if self.mask[:, -1].any():  # as of most texts of one length
            return self._first_tokens(self.mask.shape[1])
        used = self.mask.any(dim=0).nonzero()
        return self._first_tokens(int(used[-1]) + 1 if len(used) else 1)

    def _first_tokens(self: UnitTokensT, length: int) -> UnitTokensT:
        return replace(self, tokens=self.tokens[:, :length], mask=own(self.mask[:, :length]))


def own(view: Tensor) -> Tensor:
    """A copy: what is compiled for a tensor is compiled again for a view, and for other strides."""
    return view.clone(memory_format=torch.contiguous_format)


class UnitTokenSimilarity(TokenSimilarity):
    """A head that reads nothing of the tokens but their cosines.

    A subclass writes :meth:`compare`. It gets a few images, and texts of similar length, at a time:
    what it computes of their cosines stays in the cache, little work is spent on padding, and in
    training only the cosines are kept for the backward pass.
    """

    @abstractmethod
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """Scores ``(n_images, n_texts)``, in the precision of the cosines.

        Args:
            cosines: ``(n_images, R, n_texts, L)``, zero at padding; must not be overwritten.
            images: the images, prepared.
            texts: the texts, prepared.
        """

    @override
    def prepare(self, features: Features) -> UnitTokens:
        tokens, mask = self.tokens(features)
        return UnitTokens(unit_tokens(tokens, mask), mask)

    @override
    def score(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        width = images.mask.shape[1] * texts.mask.shape[1]
        lengths = texts.mask.sum(dim=1)
        if (lengths.diff() >= 0).all():  # as the ranking engine gives them
            return in_tiles(self._score, images, texts, width)
        # the texts of a training batch are in any order of length
        order = lengths.argsort()
        texts = texts.map(lambda values: values.index_select(0, order))
        return in_tiles(self._score, images, texts, width)[:, order.argsort()]

    @override
    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles :meth:`compare` only, whose steps would each pass over all cosines."""
        self.compare = torch.compile(self.compare, *args, **kwargs)  # type: ignore[method-assign]

    def cosines(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """The cosines ``(n_images, R, n_texts, L)`` for :meth:`compare`."""
        return cosines(images, texts)

    def compared(self, images: Features, texts: Features) -> tuple[Tensor, Any, Any]:
        """The arguments of :meth:`compare`, for all images and texts at once."""
        regions: Any = self.prepare_images(images)
        words: Any = self.prepare_texts(texts)
        return self.cosines(regions, words), regions, words

    def _score(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        images, texts = images.trim(), texts.trim()
        similarities = self.cosines(images, texts)
        with full_precision(similarities):
            return recomputed(self.compare)(similarities, images, texts)


def cosines(images: UnitTokens, texts: UnitTokens) -> Tensor:
    """Cosine ``(n_images, R, n_texts, L)`` of every region and every word; zero at padding.

    This product is most of the work, and the only step that autocast, or torch's
    ``set_float32_matmul_precision("medium")``, may run in half precision.

    Raises:
        InputError: the widths differ.
    """
    regions, words = images.tokens.flatten(0, 1), texts.tokens.flatten(0, 1)
    is_medium = torch.get_float32_matmul_precision() == "medium" and regions.is_cpu
    if is_medium and regions.dtype == torch.float32 and processor_multiplies_bfloat16():
        regions, words = regions.bfloat16(), words.bfloat16()  # as torch does on GPUs
    product = inner_products(regions, words)
    return at_least_float32(product).view(*images.mask.shape, *texts.mask.shape)


def hide_padding(cosines: Tensor, images: UnitTokens, texts: UnitTokens, value: float) -> Tensor:
    """The cosines with ``value`` at padding, and twice ``value`` where both tokens are padding."""
    # added, because masked_fill takes ten times as long
    of_regions = (~images.mask[:, :, None, None]).to(cosines.dtype) * value
    return (cosines + of_regions).add_((~texts.mask).to(cosines.dtype) * value)


#: Cosine of padding: below every real cosine, and finite, so that every score is finite.
BELOW_ALL = -2.0

_REGIONS, _WORDS = 1, 3  # dimensions

#: ``(cosines, dim)`` to the best match of each token along ``dim``.
Match = Callable[[Tensor, int], Tensor]
#: ``(matches (..., A), mask of the query tokens)`` to scores ``(...)``, or to weights ``(..., A)``.
Aggregate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Direction:
    """Which side's tokens are the queries, each of which is matched with the other side's tokens.

    Attributes:
        text_queries: the words are the queries (``t2i``); else the regions are (``i2t``).
    """

    text_queries: bool

    def scores(
        self,
        cosines: Tensor,
        images: UnitTokens,
        texts: UnitTokens,
        match: Match,
        aggregate: Aggregate,
    ) -> Tensor:
        """Scores ``(N, M)`` that aggregate the matches of all query tokens."""
        if self.text_queries:
            return aggregate(match(cosines, _REGIONS), texts.mask)
        return aggregate(match(cosines, _WORDS).mT, images.mask.unsqueeze(1))

    def nearest(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """``(N, M, R, L)``: 1 at the largest cosine of each query token, else 0."""
        matched = _REGIONS if self.text_queries else _WORDS
        queries = texts.mask if self.text_queries else images.mask[:, :, None, None]
        places = cosines.argmax(matched, keepdim=True)
        return (torch.zeros_like(cosines).scatter_(matched, places, 1) * queries).transpose(1, 2)

    def parts(
        self,
        cosines: Tensor,
        matches: Tensor,
        images: UnitTokens,
        texts: UnitTokens,
        weigh: Aggregate,
    ) -> Tensor:
        """``(N, M, R, L)``: what every region and word adds to :meth:`scores`; zero at padding.

        Args:
            cosines: ``(N, R, M, L)``, zero at padding.
            matches: ``(N, M, R, L)``, the weights of the cosines in each query token's match.
            images: the images, prepared.
            texts: the texts, prepared.
            weigh: the weights ``(..., A)`` of the matches in the aggregate.
        """
        parts = matches * cosines.transpose(1, 2)
        if self.text_queries:
            return parts * weigh(parts.sum(dim=2), texts.mask).unsqueeze(2)
        return parts * weigh(parts.sum(dim=3), images.mask.unsqueeze(1)).unsqueeze(3)


T2I, I2T = Direction(text_queries=True), Direction(text_queries=False)
DIRECTIONS = {"t2i": (T2I,), "i2t": (I2T,), "both": (T2I, I2T)}


def largest(cosines: Tensor, dim: int) -> Tensor:
    """The largest cosine: a :data:`Match`."""
    return cosines.amax(dim)


# -- in bounded memory ------------------------------------------------------------------------


def in_tiles(
    score: Callable[[RowsT, RowsT], Tensor], images: RowsT, texts: RowsT, width: int
) -> Tensor:
    """``score(images, texts)``, computed in tiles of about as many images as texts.

    Args:
        score: from any number of images and texts to ``(n_images, n_texts)``.
        images: the images, prepared.
        texts: the texts, prepared.
        width: how many numbers a pair takes.
    """
    pairs = pairs_of_a_tile(images.device, width)
    rows, columns = _tile_shape(len(images), len(texts), pairs)
    return _by_parts(score, images, texts, rows, columns)


def pairs_of_a_tile(device: torch.device, width: int) -> int:
    """How many pairs of ``width`` numbers each are computed at a time; at least 1."""
    elements = _TILE_CPU_ELEMENTS if device.type == "cpu" else _TILE_GPU_ELEMENTS
    return max(1, elements // max(1, width))


def slices(
    images: Tensor | Rows, texts: Tensor | Rows, width: int
) -> Iterator[tuple[slice, slice]]:
    """Which images and texts to combine at a time, so that what is made of them stays in the cache.

    For heads that make ``width`` numbers of each pair: in one slice all pairs together would take
    gigabytes. About as many images as texts, so that sums over either are short.
    """
    elements = _SLICE_CPU_ELEMENTS if images.device.type == "cpu" else _SLICE_GPU_ELEMENTS
    rows, columns = _tile_shape(len(images), len(texts), max(1, elements // max(1, width)))
    for row in range(0, len(images), rows):
        for column in range(0, len(texts), columns):
            yield slice(row, row + rows), slice(column, column + columns)


def recomputed(function: Callable[..., Tensor], random: bool = False) -> Callable[..., Tensor]:
    """The function, keeping only its arguments, and computed again in the backward pass.

    It must not change its arguments.

    Args:
        function: of any arguments.
        random: whether it draws random numbers, which are then drawn again as they were.
    """
    if not torch.is_grad_enabled():
        return function
    return partial(checkpoint, function, use_reentrant=False, preserve_rng_state=random)


def _by_parts(
    score: Callable[[RowsT, RowsT], Tensor],
    images: RowsT,
    texts: RowsT,
    rows: int,
    columns: int,
) -> Tensor:
    text_parts = _split(texts, columns)
    parts = [torch.cat([score(i, t) for t in text_parts], dim=1) for i in _split(images, rows)]
    return torch.cat(parts)


def _split(rows: RowsT, size: int) -> list[RowsT]:
    """Parts of ``size`` rows. ``split`` joins their gradients once, where slicing would each."""
    parts = rows.map(lambda values: values.split(size))
    count = max(1, math.ceil(len(rows) / size))
    return [parts.map(itemgetter(i)) for i in range(count)]


def _tile_shape(n_images: int, n_texts: int, pairs: int) -> tuple[int, int]:
    """Images and texts of a tile of about ``pairs``: nearly square, and all tiles nearly equal."""
    wanted = max(1, math.isqrt(pairs), pairs // max(1, n_images))
    texts = _even(n_texts, round(n_texts / wanted))
    images = max(1, pairs // texts)
    return _even(n_images, math.ceil(n_images / images)), texts


def _even(total: int, parts: int) -> int:
    return max(1, math.ceil(total / max(1, parts)))
