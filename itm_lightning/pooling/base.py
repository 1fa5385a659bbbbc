"""The base class of poolings: from tokens and their mask to one vector a row."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from itm_lightning.part import Part


class Pooling(Part, nn.Module, ABC):
    """Makes one vector of the tokens of an image or text.

    Padding does not change the vector; a row without tokens gives zeros.
    """

    def build(self, dim: int) -> None:
        """Makes the parameters that depend on the width of the tokens.

        The encoder calls this once: a pooling named in YAML does not know the width.

        Args:
            dim: width of the tokens.
        """

    def relate(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The tokens ``(B, L, D)`` as the encoder gives them and :meth:`forward` reads them.

        A pooling whose tokens first learn from each other overrides it; here they are unchanged.
        Arguments as of :meth:`forward`.
        """
        return tokens

    @abstractmethod
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """One vector a row, ``(B, D)``.

        Args:
            tokens: ``(B, L, D)`` float.
            mask: ``(B, L)`` bool, ``True`` at real tokens.
        """


def pick(tokens: Tensor, mask: Tensor, index: Tensor) -> Tensor:
    """One token a row, ``(B, D)``; zeros for a row without tokens.

    Args:
        tokens: ``(B, L, D)``.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        index: ``(B,)`` int64, the place of the token; a row without tokens may have any.
    """
    picked = tokens[torch.arange(len(tokens), device=tokens.device), index]
    return picked.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
