"""From captions to padded rows of token ids."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class CaptionCache:
    """Tokenises each caption once: an epoch brings the same captions again.

    Args:
        tokenise: token ids of each of several captions.
        empty: id that stands for a caption in which there is no token.
    """

    def __init__(
        self, tokenise: Callable[[list[str]], Sequence[Sequence[int]]], empty: int
    ) -> None:
        self._tokenise = tokenise
        self._empty = empty
        self._rows: dict[str, array] = {}  # an array is a tenth of a list of ints

    def __call__(self, captions: Sequence[str]) -> list[array]:
        """The token ids of each caption; at least one."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._rows]
        if new:
            for caption, ids in zip(new, self._tokenise(new), strict=True):
                self._rows[caption] = array("i", ids or [self._empty])
        return [self._rows[caption] for caption in captions]


def pad(rows: Sequence[array], value: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Token ids as a rectangle.

    Args:
        rows: the ids of ``B`` captions.
        value: id to pad with, on the right.
        length: columns ``L``; the longest row where ``None``.

    Returns:
        Ids ``(B, L)`` int64 and mask ``(B, L)`` bool, ``True`` at real tokens.
    """
    lengths = torch.tensor([len(row) for row in rows])
    columns = length or int(lengths.max())
    ids = torch.tensor([[*row, *[value] * (columns - len(row))] for row in rows])
    return ids, torch.arange(columns) < lengths[:, None]
