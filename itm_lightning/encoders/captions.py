"""From captions to padded rows of token ids."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

RowT = TypeVar("RowT")

_MOST = 2**20  # captions kept; COCO has 600,000, in some 200 MB


class CaptionCache(Generic[RowT]):
    """Tokenises each caption once: an epoch brings the same captions again.

    What it keeps is not pickled.

    Args:
        tokenise: the tokens of each of several captions.
        most: captions to keep, the first that come: the next epoch asks for all of them again.
    """

    def __init__(self, tokenise: Callable[[list[str]], Sequence[RowT]], most: int = _MOST) -> None:
        self._tokenise = tokenise
        self._most = most
        self._rows: dict[str, RowT] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": {}}

    def __call__(self, captions: Sequence[str]) -> list[RowT]:
        """The tokens of each caption."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._rows]
        made = dict(zip(new, self._tokenise(new), strict=True)) if new else {}
        room = max(0, self._most - len(self._rows))
        self._rows.update(itertools.islice(made.items(), room))
        return [made[c] if c in made else self._rows[c] for c in captions]


def pad(rows: Sequence[array], value: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Token ids as a rectangle.

    Args:
        rows: the ids of ``B`` captions; an array is a tenth of a list of ints.
        value: id to pad with, on the right.
        length: columns ``L``; the longest row where ``None``.

    Returns:
        Ids ``(B, L)`` int64 and mask ``(B, L)`` bool, ``True`` at real tokens.
    """
    lengths = torch.tensor([len(row) for row in rows])
    columns = length or int(lengths.max())
    ids = torch.tensor([[*row, *[value] * (columns - len(row))] for row in rows])
    return ids, torch.arange(columns) < lengths[:, None]
