"""Base classes of similarities: from two batches of features to one score matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.part import Part
from itm_lightning.types import Features, Rows, Vectors, full_precision

# Rows per call of score_pairs, which needs only the diagonal of each block. Larger blocks compute
# more scores in vain; smaller ones need more calls.
_PAIRS_AT_ONCE = 16


class Similarity(Part, nn.Module, ABC):
    """Scores every image of a batch against every text of a batch; higher is closer.

    A subclass writes :meth:`score`, and puts into :meth:`prepare` (or, where the two sides differ,
    :meth:`prepare_images` and :meth:`prepare_texts`) what depends on one side only. Derive from
    :class:`PooledSimilarity` or :class:`TokenSimilarity`: the type says what the head reads. The
    mixins :class:`Embedding`, :class:`Aligning`, :class:`Additive` and :class:`ClosedForm` say what
    else it can do.

    Attributes:
        dim: width of the features it was built for; a head whose weights depend on it sets it.
            ``None`` where any width will do.
        unsupported_precisions: values of ``trainer.precision`` in which it cannot be computed.
    """

    dim: int | None = None
    unsupported_precisions: tuple[str, ...] = ()

    def forward(self, images: Features, texts: Features) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        return self.score(self.prepare_images(images), self.prepare_texts(texts))

    @abstractmethod
    def score(self, images: Any, texts: Any) -> Tensor:
        """Scores ``(n_images, n_texts)`` of what the two ``prepare`` methods returned."""

    @abstractmethod
    def select(self, features: Features) -> Features:
        """The part of the features that this head reads; the rest need not be computed or stored.

        Raises:
            InputError: the features lack it.
        """

    def build(self, image_dim: int, text_dim: int) -> None:
        """Called once, before any features are computed, with their widths.

        A head whose weights depend on both widths creates them here. The default only checks that
        the widths are equal, and equal to :attr:`dim` where it is set.

        Raises:
            InputError: they are not equal.
        """
        name = type(self).__name__
        if image_dim != text_dim:
            raise InputError(
                f"{name} compares vectors of one width, but images have {image_dim} numbers and "
                f"texts {text_dim}: give model.image_projection and model.text_projection one dim"
            )
        if self.dim not in (None, image_dim):
            raise InputError(
                f"{name} has dim {self.dim}, but the Matcher has dim {image_dim}, the width of the "
                f"features: give {name} dim {image_dim}, or the Matcher dim {self.dim} (in YAML, "
                "model.similarity.dim follows model.dim where it is left out)"
            )

    def score_pairs(self, images: Features, texts: Features) -> Tensor:
        """Scores ``(B,)`` of row ``i`` of the images with row ``i`` of the texts."""
        left, right = self.prepare_images(images), self.prepare_texts(texts)
        rows = torch.arange(len(left), device=left.device).split(_PAIRS_AT_ONCE)
        return torch.cat([self.score(left[part], right[part]).diagonal() for part in rows])

    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        """Numbers for each pair in the largest tensor that :meth:`score` computes.

        The ranking engine chooses the size of its blocks by it.

        Args:
            regions: tokens of an image; 0 without.
            words: tokens of a text; 0 without.
            dim: width of the common space.
        """
        return 1

    def to_head_space(self, images: Features, texts: Features) -> tuple[Features, Features]:
        """Images and texts in the space in which the head compares them.

        Objectives on features read the result. By default the features are unchanged; a head with a
        space of its own returns a subclass of :class:`~itm_lightning.types.Features`, see
        :mod:`itm_lightning.similarity.spaces`.
        """
        return images, texts

    def prepare(self, features: Features) -> Rows:
        """Computes, once for each image or text, what does not depend on the pair.

        With several processes, prepared rows are sent between them, padded with zeros to the most
        tokens on any process. As with the padding of features, that must not change any score.
        """
        return features

    def prepare_images(self, images: Features) -> Rows:
        """:meth:`prepare`, of images."""
        return self.prepare(self.select(images))

    def prepare_texts(self, texts: Features) -> Rows:
        """:meth:`prepare`, of texts."""
        return self.prepare(self.select(texts))


class PooledSimilarity(Similarity):
    """A head that reads one vector for each image and one for each text."""

    def select(self, features: Features) -> Features:
        """The pooled vectors alone."""
        return Features.from_pooled(self.pooled(features))

    def pooled(self, features: Features) -> Tensor:
        """The pooled vectors ``(B, D)``.

        Raises:
            InputError: the features have none.
        """
        if features.pooled is None:
            raise InputError(
                f"{type(self).__name__} reads pooled vectors; the features have only tokens: use "
                "an encoder that gives pooled vectors, or a head of tokens such as CrossAttention"
            )
        return features.pooled


class TokenSimilarity(Similarity):
    """A head that reads regions and words."""

    def select(self, features: Features) -> Features:
        """The tokens and their mask alone."""
        tokens, mask = self.tokens(features)
        return Features(tokens, mask, None)

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return regions * words

    def tokens(self, features: Features) -> tuple[Tensor, Tensor]:
        """The tokens ``(B, L, D)`` and their mask ``(B, L)``.

        Raises:
            InputError: the features have none.
        """
        if features.tokens is None or features.mask is None:
            raise InputError(
                f"{type(self).__name__} reads tokens (regions, words); the features are pooled "
                "vectors only: use an encoder that gives tokens, or a pooled head such as Cosine"
            )
        return features.tokens, features.mask


class Embedding(ABC):
    """Mixin of heads whose score is a monotone function of an inner product: it can be indexed."""

    @abstractmethod
    def embed_images(self, images: Features) -> Tensor:
        """Vectors ``(B, E)`` of images."""

    @abstractmethod
    def embed_texts(self, texts: Features) -> Tensor:
        """Vectors ``(B, E)`` of texts."""

    def score_of_inner_product(self, products: Tensor) -> Tensor:
        """The scores, of inner products of the vectors; increasing, here the identity."""
        return products


class InnerProductSimilarity(Embedding, PooledSimilarity):
    """A head whose score follows from its embeddings by :meth:`score_of_inner_product`."""

    def prepare_images(self, images: Features) -> Vectors:
        """See :meth:`embed_images`."""
        return Vectors(self.embed_images(images))

    def prepare_texts(self, texts: Features) -> Vectors:
        """See :meth:`embed_texts`."""
        return Vectors(self.embed_texts(texts))

    def score(self, images: Vectors, texts: Vectors) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        with full_precision(images.vectors):
            return self.score_of_inner_product(inner_products(images.vectors, texts.vectors))

    @override
    def score_pairs(self, images: Features, texts: Features) -> Tensor:
        left, right = self.embed_images(images), self.embed_texts(texts)
        with full_precision(left):
            return self.score_of_inner_product((left * right).sum(dim=-1))


class ClosedForm(ABC):
    """Mixin of heads that are solved, not trained: ``fit`` passes every pair to them once.

    The weights are ``nn.Parameter``, created by :meth:`Similarity.build` or the constructor. Both
    methods run without gradient. Sums are in float64, so that the order in which batches and
    processes add them hardly matters.

    Attributes:
        joined: names among what :meth:`observe` returns that are not sums, but rows: those of all
            calls are joined. They stay in memory until the solution.
    """

    joined: tuple[str, ...] = ()

    @abstractmethod
    def observe(
        self, images: Features, texts: Features, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Sums over ``B`` pairs, by name; the caller adds the sums of several calls.

        Row ``i`` of the images and row ``i`` of the texts are a pair.

        Args:
            images: features of ``B`` images, projected.
            texts: features of their ``B`` texts, projected.
            labels: ``(B, C)`` bool, which classes each pair has; ``C`` is 0 for a source without.
        """

    @abstractmethod
    def solve(self, sums: dict[str, Tensor]) -> None:
        """Sets the weights from the sums over all pairs, and the rows that are joined."""


class Aligning(ABC):
    """Mixin of heads that weigh regions against words."""

    @abstractmethod
    def alignment(self, images: Features, texts: Features) -> Tensor:
        """Weights ``(n_images, n_texts, R, L)`` of every region and word; zero at padding.

        Memory grows with ``n_images · n_texts · R · L``: meant for a few images and texts.
        """


class Additive(ABC):
    """Mixin of heads whose score is a sum of parts, one of each region and word.

    What normalises (the length of an attended vector, the weights of LogSumExp, a transport plan)
    is held fixed at its value for the pair: the parts say what the score is made of, not how it
    would change.
    """

    @property
    def left_out(self) -> str | None:
        """What the parts leave out of the score, in words; ``None`` where they add up to it."""
        return None

    @abstractmethod
    def contributions(self, images: Features, texts: Features) -> Tensor:
        """Parts ``(n_images, n_texts, R, L)`` of every region and word; zero at padding.

        Their sum over ``R`` and ``L`` is the score, less what :attr:`left_out` names. Memory is
        that of :meth:`Aligning.alignment`.
        """


def same_width(left: Tensor, right: Tensor) -> None:
    """Checks that the last dimensions are equal.

    Raises:
        InputError: the widths differ.
    """
    if left.shape[-1] != right.shape[-1]:
        raise InputError(
            f"images and texts must share one width, but they have {left.shape[-1]} and "
            f"{right.shape[-1]}: give both encoders the same output size"
        )


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """``(A, B)`` inner products of the rows of ``left (A, D)`` and ``right (B, D)``.

    Raises:
        InputError: the widths differ.
    """
    same_width(left, right)
    return left @ right.mT
