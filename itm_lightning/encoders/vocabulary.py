"""The words a text encoder knows, and texts as padded rows of token ids."""

from __future__ import annotations

import itertools
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from itm_lightning.encoders.base import Token

RowT = TypeVar("RowT")

_MOST = 2**20  # texts kept; COCO has 600,000, in some 200 MB


class TextCache(Generic[RowT]):
    """Tokenises each text once: an epoch brings the same texts again.

    What it keeps is not pickled.

    Args:
        tokenise: the tokens of each of several texts.
        most: texts to keep, the first that come: the next epoch asks for all of them again.
    """

    def __init__(self, tokenise: Callable[[list[str]], Sequence[RowT]], most: int = _MOST) -> None:
        self._tokenise = tokenise
        self._most = most
        self._rows: dict[str, RowT] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": {}}

    def __call__(self, texts: Sequence[str]) -> list[RowT]:
        """The tokens of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        made = dict(zip(new, self._tokenise(new), strict=True)) if new else {}
        room = max(0, self._most - len(self._rows))
        self._rows.update(itertools.islice(made.items(), room))
        return [made[c] if c in made else self._rows[c] for c in texts]


def pad(rows: Sequence[array], value: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Token ids as a rectangle.

    Args:
        rows: the ids of ``B`` texts; an array is a tenth of a list of ints.
        value: id to pad with, on the right.
        length: columns ``L``; the longest row where ``None``.

    Returns:
        Ids ``(B, L)`` int64 and mask ``(B, L)`` bool, ``True`` at real tokens.
    """
    lengths = torch.tensor([len(row) for row in rows])
    columns = length or int(lengths.max())
    ids = torch.tensor([[*row, *[value] * (columns - len(row))] for row in rows])
    return ids, torch.arange(columns) < lengths[:, None]


PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
"""Letters and digits of any script; apostrophes within a word belong to it."""


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case: ``"The dog's ball!"`` → ``the, dog's, ball``."""
    return WORD.findall(text.lower().replace("’", "'"))


def words_of(text: str) -> list[Token]:
    """The words of a text as tokens; a text without words is one special token."""
    return [Token(word, special=False) for word in split_words(text)] or [Token("", special=True)]


class Vocabulary:
    """Gives each word an id. Id 0 is padding, id 1 any unknown word.

    Args:
        words: the known words; the first gets id 2.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words, start=UNKNOWN + 1)}
        self._rows = TextCache(self._lookup)

    @classmethod
    def learn(cls, texts: Iterable[str], min_count: int = 1) -> Vocabulary:
        """The words that occur ``min_count`` times or more, the most frequent first."""
        counts = Counter(word for text in texts for word in split_words(text))
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """How many ids there are, padding and unknown included."""
        return len(self.words) + UNKNOWN + 1

    def id(self, word: str) -> int:
        """The word's id, that of unknown words where it is none of ours."""
        return self._ids.get(word, UNKNOWN)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids ``(B, L)`` int64 and mask ``(B, L)`` bool; an empty text is one unknown word."""
        return pad(self._rows(texts), PADDING)

    def _lookup(self, texts: list[str]) -> list[array]:
        rows = ([self.id(word) for word in split_words(text)] for text in texts)
        return [array("i", row or [UNKNOWN]) for row in rows]
