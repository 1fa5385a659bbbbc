"""SGRAF's vectors: similarity vectors of words and images, and global vectors of both sides.

A similarity vector compares a word with its attended image vector in each of the ``D`` dimensions.
The differences of all words and images would take gigabytes: :func:`similarity_vectors` computes
them for a few images at a time, and again in the backward pass, at a cost of ``R · D`` products for
each word; the linear map that follows costs ``D · S``. :class:`GlobalVector` pools the tokens of
one side by self-attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from itm_lightning.distributed.masked_batch_norm import MaskedBatchNorm
from itm_lightning.types import masked_mean, unit

_CPU_ELEMENTS = 2**19  # 2 MB in float32: fits the cache of one core
_TINY = 1e-12


@torch.compiler.disable  # it would unroll the loop over slices
def similarity_vectors(
    weights: Tensor, contexts: Tensor, queries: Tensor, projection: Tensor, bias: Tensor
) -> Tensor:
    """``s / ‖s‖`` with ``s = P |Σ_k w_k c_k - q|² + b``, squared in each dimension.

    This takes ``D · S`` products for each query and row. Expanding the square would save nothing:
    ``P q²`` depends on one side only, but ``P (c ∘ (c - 2q))`` costs as much as the whole.

    Args:
        weights: ``w (N, T, K)``, of every query over each row's context tokens.
        contexts: ``c (N, K, D)``.
        queries: ``q (T, D)``.
        projection: ``P (S, D)``.
        bias: ``b (S,)``.

    Returns:
        ``(N, T, S)``. It can be differentiated once.
    """
    return _SimilarityVectors.apply(weights, contexts, queries, projection, bias)


class _SimilarityVectors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        contexts: Tensor,
        queries: Tensor,
        projection: Tensor,
        bias: Tensor,
    ) -> Tensor:
        vectors = queries.new_empty(*weights.shape[:2], len(projection))
        lengths = queries.new_empty(*weights.shape[:2], 1)
        for rows in _few(vectors, queries):
            squares = _differences(weights[rows], contexts[rows], queries).square_()
            block = vectors[rows].flatten(0, 1)
            torch.addmm(bias, squares.flatten(0, 1), projection.T, out=block)
            torch.linalg.vector_norm(vectors[rows], dim=-1, keepdim=True, out=lengths[rows])
            vectors[rows].div_(lengths[rows].clamp_(min=_TINY))
        ctx.save_for_backward(weights, contexts, queries, projection, vectors, lengths)
        return vectors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        weights, contexts, queries, projection, vectors, lengths = ctx.saved_tensors
        d_weights, d_contexts = torch.empty_like(weights), torch.empty_like(contexts)
        d_queries, d_projection = torch.zeros_like(queries), torch.zeros_like(projection)
        d_bias = projection.new_zeros(len(projection))
        for rows in _few(vectors, queries):
            differences = _differences(weights[rows], contexts[rows], queries)
            # gradient of s: the part of g orthogonal to s / ‖s‖, divided by ‖s‖
            along = (gradient[rows] * vectors[rows]).sum(dim=-1, keepdim=True)
            d_s = (gradient[rows] - along * vectors[rows]).div_(lengths[rows]).flatten(0, 1)
            d_bias += d_s.sum(dim=0)
            d_projection.addmm_(d_s.T, differences.square().flatten(0, 1))
            # gradient of Σ w c - q: 2 Pᵀ (gradient of s) ∘ (Σ w c - q)
            d_differences = (d_s @ projection).view_as(differences).mul_(differences).mul_(2)
            d_queries -= d_differences.sum(dim=0)
            d_weights[rows] = d_differences @ contexts[rows].mT
            d_contexts[rows] = weights[rows].mT @ d_differences
        return d_weights, d_contexts, d_queries, d_projection, d_bias


def _differences(weights: Tensor, contexts: Tensor, queries: Tensor) -> Tensor:
    """``(n, T, D)``; attended vectors minus queries, in one pass."""
    return torch.baddbmm(queries.expand(len(weights), -1, -1), weights, contexts, beta=-1)


def _few(vectors: Tensor, queries: Tensor) -> Iterator[slice]:
    """Slices of rows whose differences fit into a CPU's cache.

    On other devices the differences of a slice take at most as much memory as the vectors.
    """
    elements = _CPU_ELEMENTS if vectors.device.type == "cpu" else vectors.numel()
    step = max(1, elements // max(1, queries.numel()))
    return (slice(start, start + step) for start in range(0, len(vectors), step))


_DROPOUT = 0.4  # the authors'


class GlobalVector(nn.Module):
    """A weighted mean of the tokens, with weights that depend on their plain mean.

    ``softmax(w · (tanh(A token) ∘ tanh(B mean)))`` over the real tokens. Diao et al., AAAI 2021,
    section "Similarity Vector Representation", after Lee et al. 2018 and Nam et al. 2017.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.local = nn.Linear(dim, dim)
        self.overall = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Vectors ``(B, D)`` of length 1; zero for a row without tokens.

        Args:
            tokens: ``(B, L, D)``, zero at padding.
            mask: ``(B, L)`` bool, ``True`` at real tokens.
        """
        local = self.dropout(self._normalise_local(self.local(tokens), mask).tanh())
        overall = self._normalise_overall(self.overall(masked_mean(tokens, mask))).tanh()
        scores = self.score(local * self.dropout(overall).unsqueeze(1)).squeeze(-1)
        # the lowest finite number: with -inf a row without tokens would be NaN
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1)
        return unit((weights.unsqueeze(1) @ tokens).squeeze(1))

    def _normalise_local(self, local: Tensor, mask: Tensor) -> Tensor:
        return local

    def _normalise_overall(self, overall: Tensor) -> Tensor:
        return overall


class NormalisedGlobalVector(GlobalVector):
    """:class:`GlobalVector` with batch normalisation before both ``tanh``, for images.

    Every position among the tokens has its own statistics: region 1 of all images, region 2, ….

    Args:
        dim: width of the tokens.
        length: the most tokens that a row has.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim)
        self.local_norm = MaskedBatchNorm(length)
        self.overall_norm = MaskedBatchNorm(dim)

    def _normalise_local(self, local: Tensor, mask: Tensor) -> Tensor:
        return self.local_norm(local, mask.unsqueeze(-1))

    def _normalise_overall(self, overall: Tensor) -> Tensor:
        return self.overall_norm(overall.unsqueeze(-1), overall.new_ones(1).bool()).squeeze(-1)
