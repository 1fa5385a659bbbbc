"""The vocabulary of a text encoder, and texts as padded rows of token ids."""

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
from itm_lightning.errors import InputError

RowT = TypeVar("RowT")

PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
"""Letters and digits of any script; apostrophes within a word belong to it."""

_MOST = 2**20  # texts in a cache; COCO has 600,000 captions, about 200 MB


class Vocabulary:
    """Gives each word an id; id 0 is padding, and id 1 is any unknown word.

    Args:
        words: the known words; the first has id 2.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words, start=UNKNOWN + 1)}
        self._rows = TextCache(self._lookup)

    @classmethod
    def learn(cls, texts: Iterable[str], min_count: int = 1) -> Vocabulary:
        """The words that occur at least ``min_count`` times, the most frequent first."""
        counts = Counter(word for text in texts for word in split_words(text))
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """The number of ids, those of padding and unknown words included."""
        return len(self.words) + UNKNOWN + 1

    def id(self, word: str) -> int:
        """The id of a word, known or unknown."""
        return self._ids.get(word, UNKNOWN)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids ``(B, L)`` int64 and mask ``(B, L)`` bool; an empty text is one unknown word."""
        return pad(self._rows(texts), PADDING)

    def _lookup(self, texts: list[str]) -> list[array]:
        rows = ([self.id(word) for word in split_words(text)] for text in texts)
        return [array("i", row or [UNKNOWN]) for row in rows]


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case: ``"The dog's ball!"`` → ``the, dog's, ball``."""
    return WORD.findall(text.lower().replace("’", "'"))


def words_of(text: str) -> list[Token]:
    """The words of a text as tokens; a text without words is one special token."""
    return [Token(word, special=False) for word in split_words(text)] or [Token("", special=True)]


class TextCache(Generic[RowT]):
    """Tokenises each text once, because every epoch has the same texts.

    The stored tokens are not pickled.

    Args:
        tokenise: gives the tokens of each of several texts.
        most: how many texts are stored, the first ones: every epoch has all of them, so that
            replacing them would gain nothing.
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
    """Pads rows of token ids to one length.

    Args:
        rows: the ids of ``B`` texts; an array takes a tenth of the memory of a list.
        value: id to pad with, on the right.
        length: columns ``L``; the longest row where ``None``.

    Returns:
        Ids ``(B, L)`` int64 and mask ``(B, L)`` bool, ``True`` at real tokens.
    """
    lengths = torch.tensor([len(row) for row in rows])
    columns = length or int(lengths.max())
    ids = torch.tensor([[*row, *[value] * (columns - len(row))] for row in rows])
    return ids, torch.arange(columns) < lengths[:, None]


def required(vocabulary: Vocabulary | None, encoder: object) -> Vocabulary:
    """The encoder's vocabulary.

    Raises:
        InputError: it has not learnt one yet.
    """
    if vocabulary is None:
        raise InputError(
            f"{type(encoder).__name__} has no vocabulary yet: call learn_vocabulary(texts) with "
            "the training texts, or load a checkpoint"
        )
    return vocabulary
