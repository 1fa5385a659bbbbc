"""The words a text encoder knows."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

from itm_lightning.encoders.captions import CaptionCache, pad

PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
"""Letters and digits of any script; apostrophes within a word belong to it."""


def split_words(caption: str) -> list[str]:
    """The words of a caption, in lower case: ``"The dog's ball!"`` → ``the, dog's, ball``."""
    return WORD.findall(caption.lower().replace("’", "'"))


class Vocabulary:
    """Gives each word an id. Id 0 is padding, id 1 any unknown word.

    Args:
        words: the known words; the first gets id 2.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words, start=UNKNOWN + 1)}
        self._rows = CaptionCache(self._lookup)

    @classmethod
    def learn(cls, captions: Iterable[str], min_count: int = 1) -> Vocabulary:
        """The words that occur ``min_count`` times or more, the most frequent first."""
        counts = Counter(word for caption in captions for word in split_words(caption))
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """How many ids there are, padding and unknown included."""
        return len(self.words) + UNKNOWN + 1

    def id(self, word: str) -> int:
        """The word's id, that of unknown words where it is none of ours."""
        return self._ids.get(word, UNKNOWN)

    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids ``(B, L)`` int64 and mask ``(B, L)`` bool; an empty caption is one unknown word."""
        return pad(self._rows(captions), PADDING)

    def _lookup(self, captions: list[str]) -> list[array]:
        rows = ([self.id(word) for word in split_words(caption)] for caption in captions)
        return [array("i", row or [UNKNOWN]) for row in rows]
