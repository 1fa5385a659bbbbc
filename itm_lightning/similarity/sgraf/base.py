"""Base of SGR and SAF: the similarity vectors of SGRAF, for all pairs of a batch at once.

Diao, Zhang, Ma, Lu: "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.similarity.attention import NORMALIZERS, attention, inverse_length
from itm_lightning.similarity.base import Aligning, TokenSimilarity, inner_products
from itm_lightning.similarity.functional import of_width
from itm_lightning.similarity.sgraf.vectors import (
    GlobalVector,
    NormalisedGlobalVector,
    similarity_vectors,
)
from itm_lightning.types import Features, Rows, at_least_float32, full_precision, unit_tokens

_SMOOTH = 9.0  # λ, the attention's inverse temperature


@dataclass(frozen=True)
class SgrafTokens(Rows):
    """One side, prepared for SGRAF.

    Attributes:
        tokens: ``(B, L, D)`` of length 1, zero at padding.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        overall: ``(B, D)`` of length 1, the global vector.
        gram: ``(B, L, L)`` inner products of an image's regions; ``None`` for texts.
    """

    tokens: Tensor
    mask: Tensor
    overall: Tensor
    gram: Tensor | None


class Sgraf(Aligning, TokenSimilarity):
    """A head on similarity vectors; the subclasses combine them to one score.

    A pair has a vector for each word, which compares it with its attended image vector, and one for
    the global vectors of both: ``s(x, y) = W|x - y|² / ‖W|x - y|²‖`` (section "Similarity
    Representation Learning", with the bias of the authors' code). Words attend to regions as in
    SCAN.

    Args:
        dim: width of the tokens.
        sim_dim: width of the similarity vectors.
        regions: the most regions that an image has. Batch normalisation in the image's
            self-attention has statistics for each; an image with fewer uses the first ones.
    """

    # Similarity vectors are float32, which weights in bfloat16 cannot be multiplied with.
    unsupported_precisions = ("bf16-true",)

    def __init__(self, dim: Size, sim_dim: Size, regions: Size) -> None:
        super().__init__()
        self.dim: int = dim
        self.sim_dim, self.regions = sim_dim, regions
        self.image_overall = NormalisedGlobalVector(dim, regions)
        self.text_overall = GlobalVector(dim)
        self.local_similarity = nn.Linear(dim, sim_dim)
        self.overall_similarity = nn.Linear(dim, sim_dim)
        self.evaluate = nn.Linear(sim_dim, 1)

    def initialise(self) -> None:
        """Xavier uniform weights and zero biases, as in the authors' code; subclasses call this."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @abstractmethod
    def match(self, vectors: Tensor, counts: Tensor) -> Tensor:
        """One vector for each pair: ``(n_images, n_texts, S)``.

        Args:
            vectors: ``(n_images, n_texts, 1 + L, S)``: the global one, then the real words', then
                zeros.
            counts: ``(n_texts,)`` int64, how many vectors are not padding.
        """

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return max(regions * words, (1 + words) * self.sim_dim)

    @override
    def prepare_images(self, images: Features) -> SgrafTokens:
        tokens, mask = self._unit_tokens(images)
        if mask[:, self.regions :].any():
            most = int(mask.nonzero()[:, 1].max()) + 1
            raise InputError(
                f"{type(self).__name__}(regions={self.regions}) got an image of {most} regions: "
                "set regions to the most that an image has"
            )
        tokens, mask = tokens[:, : self.regions], mask[:, : self.regions]
        with full_precision(tokens):
            overall = self.image_overall(tokens, mask)
            return SgrafTokens(tokens, mask, overall, tokens @ tokens.mT)

    @override
    def prepare_texts(self, texts: Features) -> SgrafTokens:
        tokens, mask = self._unit_tokens(texts)
        with full_precision(tokens):
            return SgrafTokens(tokens, mask, self.text_overall(tokens, mask), None)

    @override
    def score(self, images: SgrafTokens, texts: SgrafTokens) -> Tensor:
        weights = _attention(images.tokens, images.mask, texts.tokens, texts.mask)
        with full_precision(weights):
            vectors = self._vectors(weights, images, texts)
            matched = self.match(vectors, 1 + texts.mask.sum(dim=1))
            return self.evaluate(matched).squeeze(-1).sigmoid()

    @override
    def alignment(self, images: Features, texts: Features) -> Tensor:
        words, mask = self._unit_tokens(texts)
        weights = _attention(*self._unit_tokens(images), words, mask)
        return (weights * mask).transpose(1, 2)

    def _unit_tokens(self, features: Features) -> tuple[Tensor, Tensor]:
        tokens, mask = self.tokens(features)
        return unit_tokens(of_width(self.dim, tokens, self), mask), mask

    def _vectors(self, weights: Tensor, images: SgrafTokens, texts: SgrafTokens) -> Tensor:
        """Similarity vectors ``(n_images, n_texts, 1 + L, S)``; only real words are computed."""
        real = texts.mask.flatten().nonzero().squeeze(1)
        assert images.gram is not None  # only texts have none
        to_unit = inverse_length(weights, images.gram).unsqueeze(1)
        weights = (weights * to_unit).flatten(2).index_select(2, real).mT
        words = texts.tokens.flatten(0, 1)[real]
        local, overall = self.local_similarity, self.overall_similarity
        of_words = similarity_vectors(weights, images.tokens, words, local.weight, local.bias)
        # the global vector of a text attends to that of the image alone
        ones = weights.new_ones(len(images), len(texts), 1)
        overall_images = images.overall.unsqueeze(1)
        of_wholes = similarity_vectors(
            ones, overall_images, texts.overall, overall.weight, overall.bias
        )
        return _laid_out(of_wholes, of_words, texts.mask)


def _attention(regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
    """Weights ``(n_images, R, n_texts, L)``; each word's sum to 1 over the regions."""
    product = inner_products(regions.flatten(0, 1), words.flatten(0, 1))
    cosines = at_least_float32(product).view(*region_mask.shape, *word_mask.shape)
    with full_precision(cosines):
        normalise = NORMALIZERS["clipped_l2norm"]
        return attention(cosines, word_mask, region_mask, normalise, _SMOOTH)


def _laid_out(of_wholes: Tensor, of_words: Tensor, mask: Tensor) -> Tensor:
    """``(N, M, 1 + L, S)``: vectors ``(N, M, S)`` of the wholes, ``(N, T, S)`` of real words."""
    n_texts, n_words = mask.shape
    starts = torch.arange(n_texts, device=mask.device) * (1 + n_words)
    words = (starts.unsqueeze(1) + mask.cumsum(dim=1))[mask]
    vectors = of_words.new_zeros(len(of_words), n_texts * (1 + n_words), of_words.shape[-1])
    vectors.index_copy_(1, starts, of_wholes).index_copy_(1, words, of_words)
    return vectors.unflatten(1, (n_texts, 1 + n_words))
