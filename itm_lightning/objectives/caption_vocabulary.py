"""The words that captions are written with: their ids, and back to text."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

from itm_lightning.encoders.vocabulary import TextCache, pad, word_pattern

PADDING, UNKNOWN, START, END = range(4)
_SPECIAL = 4
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,:;!?)'%")


class CaptionVocabulary:
    """Words and punctuation marks in lower case, each with an id.

    The ids 0 to 3 are padding, any unknown word, the start and the end of a caption.

    Args:
        words: the known words; the first has id 4.
        longest: tokens of a text at most, its end included; the rest is cut off.
    """

    def __init__(self, words: Sequence[str], longest: int) -> None:
        self.words, self.longest = list(words), longest
        self._ids = {word: i for i, word in enumerate(self.words, start=_SPECIAL)}
        self._rows = TextCache(self._lookup)

    @classmethod
    def learn(cls, texts: Iterable[str], min_count: int, longest: int) -> CaptionVocabulary:
        """The tokens that occur at least ``min_count`` times, the most frequent first."""
        counts = Counter(token for text in texts for token in split_caption(text))
        frequent = [token for token, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda token: (-counts[token], token)), longest)

    def __len__(self) -> int:
        """The number of ids, the four special ones included."""
        return len(self.words) + _SPECIAL

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids ``(B, L)`` int64, each row ending with the end, and mask ``(B, L)`` bool."""
        return pad(self._rows(texts), PADDING)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; it stops at the end, and leaves out the other special ids."""
        text = ""
        for number in ids:
            if number == END:
                break
            if number >= _SPECIAL:
                word = self.words[number - _SPECIAL]
                text += word if not text or word in _NO_SPACE_BEFORE else f" {word}"
        return text

    def _lookup(self, texts: list[str]) -> list[array]:
        cut = self.longest - 1
        rows = ([self._ids.get(t, UNKNOWN) for t in split_caption(text)[:cut]] for text in texts)
        return [array("i", [*row, END]) for row in rows]


def split_caption(text: str) -> list[str]:
    """Words and punctuation marks: ``"A dog, wet."`` → ``a``, ``dog``, ``,``, ``wet``, ``.``."""
    text = text.lower()
    if text.isascii():
        return _TOKEN.findall(text)
    return word_pattern("'’-", r"[^\w\s]").findall(unicodedata.normalize("NFC", text))
