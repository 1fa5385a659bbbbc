"""What every pooling is: tokens and their mask in, one vector a row out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from itm_lightning.part import Part


class Pooling(Part, nn.Module, ABC):
    """Makes one vector of the tokens of an image or text.

    Padding changes nothing, and a row without tokens gives zeros.
    """

    def build(self, dim: int) -> None:
        """Makes the parameters that depend on the width of the tokens.

        YAML names a pooling without knowing that width; the encoder, which does, calls this once.

        Args:
            dim: width of the tokens.
        """

    @abstractmethod
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """One vector a row, ``(B, D)``.

        Args:
            tokens: ``(B, L, D)`` float.
            mask: ``(B, L)`` bool, ``True`` at real tokens.
        """


def pick(tokens: Tensor, mask: Tensor, index: Tensor) -> Tensor:
    """``(B, D)``: the token at ``index (B,)``; zeros for a row without tokens.

    Args:
        tokens: ``(B, L, D)``.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        index: ``(B,)`` int64; of a row without tokens, any.
    """
    picked = tokens[torch.arange(len(tokens), device=tokens.device), index]
    return picked.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
