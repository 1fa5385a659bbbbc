"""Hamming: in how many bits two codes differ, counted on packed bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.similarity.unit_tokens import slices
from itm_lightning.types import Features, Rows, Vectors, at_least_float32

_WORD = 64  # bits


@dataclass(frozen=True)
class PackedCodes(Rows):
    """Binary codes, 64 bits to a word: a 32nd of the memory that float32 takes.

    Attributes:
        words: ``(B, ceil(bits / 64))`` int64; bits beyond the code's are 0.
        bits: ``K``, the length of a code.
    """

    words: Tensor
    bits: int

    @override
    def map(self, function: Callable[[Any], Any]) -> PackedCodes:
        return PackedCodes(function(self.words), self.bits)

    @override
    def tensors(self) -> Iterator[Tensor]:
        yield self.words


@register("similarity")
class Hamming(InnerProductSimilarity):
    """Minus the Hamming distance of binary codes: the signs of the pooled vectors' ``K`` numbers.

    For codes ``b`` in ``{-1, 1}`` it is ``-(K - b_v·b_t) / 2``, one matrix product (Jiang, Li:
    "Deep Cross-Modal Hashing", CVPR 2017). In evaluation, scores are exact whole numbers from -K to
    0, counted by :func:`hamming_distances` on packed bits, which is what processes store and send;
    many are equal, and ties count against the model. Signs have no gradient: in training ``tanh``
    replaces them (Cao et al., "HashNet", ICCV 2017, without its continuation).
    """

    @override
    def prepare_images(self, images: Features) -> PackedCodes | Vectors:  # type: ignore[override]
        """Packed codes; in training :meth:`embed_images`."""
        return super().prepare_images(images) if self.training else pack(self.pooled(images) >= 0)

    @override
    def prepare_texts(self, texts: Features) -> PackedCodes | Vectors:  # type: ignore[override]
        """The same of texts."""
        return super().prepare_texts(texts) if self.training else pack(self.pooled(texts) >= 0)

    @override
    def score(self, images: Any, texts: Any) -> Tensor:
        """Scores ``(n_images, n_texts)`` float32 at least."""
        if self.training:
            return super().score(images, texts)
        return -hamming_distances(images, texts).float()

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return 2  # distances are int64 at first

    @override
    def embed_images(self, images: Features) -> Tensor:
        """The codes and ``-K``: ``(B, K + 1)``."""
        codes = self._codes(images)
        return F.pad(codes, (0, 1), value=-codes.shape[1])

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        """The codes and 1: ``(B, K + 1)``."""
        return F.pad(self._codes(texts), (0, 1), value=1)

    @override
    def score_of_inner_product(self, products: Tensor) -> Tensor:
        """Half of them, in [-K, 0]: of codes that differ in ``d`` bits the product is ``-2d``."""
        return products / 2

    def _codes(self, features: Features) -> Tensor:
        """Codes ``(B, K)``: -1 and 1 (of 0, too) in evaluation, between them in training."""
        vectors = at_least_float32(self.pooled(features))
        if self.training:
            return vectors.tanh()
        return torch.where(vectors < 0, -1.0, 1.0).to(vectors.dtype)


def pack(bits: Tensor) -> PackedCodes:
    """Codes ``(B, K)`` bool as words."""
    n_words = -(-bits.shape[1] // _WORD)
    padded = F.pad(bits, (0, n_words * _WORD - bits.shape[1])).unflatten(1, (n_words, _WORD))
    places = torch.arange(_WORD, device=bits.device)
    return PackedCodes((padded.long() << places).sum(dim=2), bits.shape[1])


def hamming_distances(left: PackedCodes, right: PackedCodes) -> Tensor:
    """In how many bits each of ``n`` codes differs from each of ``m``: ``(n, m)`` int64.

    By exclusive or and a count of bits, in slices that fit a core's cache.

    Raises:
        InputError: codes differ in length.
    """
    if left.bits != right.bits:
        raise InputError(
            f"codes must share one width, but they have {left.bits} and {right.bits} bits: give "
            "both projections the same dim"
        )
    distances = left.words.new_empty(len(left), len(right))
    for rows, columns in slices(left, right, width=1):
        distances[rows, columns] = _distances(left[rows], right[columns])
    return distances


def _distances(left: PackedCodes, right: PackedCodes) -> Tensor:
    found = torch.zeros(len(left), len(right), dtype=torch.int64, device=left.device)
    for mine, other in zip(left.words.unbind(1), right.words.unbind(1), strict=True):
        found += _count_bits_(mine[:, None] ^ other)
    return found


def _count_bits_(words: Tensor) -> Tensor:
    """How many bits of each word are 1, in place of the words.

    Neighbouring sums are added, of 1, 2 and 4 bits; a product then adds the eight bytes up in the
    highest one (Warren, "Hacker's Delight", section 5-1). torch has no such instruction.
    """
    words -= (words >> 1).bitwise_and_(0x5555555555555555)
    pairs = (words >> 2).bitwise_and_(0x3333333333333333)
    words.bitwise_and_(0x3333333333333333).add_(pairs)
    words.add_(words >> 4).bitwise_and_(0x0F0F0F0F0F0F0F0F)
    return words.mul_(0x0101010101010101).bitwise_right_shift_(56)
