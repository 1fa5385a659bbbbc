"""Similarities: heads that score photos against captions."""

from itm_lightning.similarity.base import (
    Aligning,
    Embedding,
    PooledSimilarity,
    Similarity,
    TokenSimilarity,
)
from itm_lightning.similarity.bilinear import Bilinear
from itm_lightning.similarity.cosine import Cosine
from itm_lightning.similarity.cross_attention import CrossAttention

__all__ = [
    "Aligning",
    "Bilinear",
    "Cosine",
    "CrossAttention",
    "Embedding",
    "PooledSimilarity",
    "Similarity",
    "TokenSimilarity",
]
