"""Projection: from an encoder's width into the common space."""

from __future__ import annotations

from torch import Tensor, nn

from itm_lightning.types import Features


class Projection(nn.Module):
    """One linear map for tokens and pooled vectors alike, after dropout.

    Args:
        width: the encoder's.
        dim: the common space's.
        dropout: share of the encoder's channels set to zero in training.
    """

    def __init__(self, width: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Features) -> Features:
        """Projects what the features hold: ``(…, width)`` to ``(…, dim)``."""
        return Features(self._map(features.tokens), features.mask, self._map(features.pooled))

    def _map(self, vectors: Tensor | None) -> Tensor | None:
        return None if vectors is None else self.linear(self.dropout(vectors))
