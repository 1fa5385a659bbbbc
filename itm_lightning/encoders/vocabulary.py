"""The vocabulary of a text encoder, and texts as padded rows of token ids."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
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
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# Scripts without blanks between words: Han, with its extensions, and kana.
_BY_CHARACTER = "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d"
_BY_CHARACTER += "\U00020000-\U0003ffff"

START, END = "<start>", "<end>"
_ABBREVIATION = re.compile(r"(?:[a-z]\.)+[a-z]|mrs?|ms|dr|st|jr|sr|vs")
_LAST_PERIOD = re.compile(r"(\S*[^\s.])\.(?=[\"')\]]*(\s|$))")
_TREEBANK = [  # Penn Treebank's conventions, for texts in lower case
    (re.compile(r'(^|[\s(\[{<])"'), r"\1 `` "),
    (re.compile(r'"'), " '' "),
    (re.compile(r"\.\.\.|--|[;@#$%&?!()\[\]{}<>]"), r" \g<0> "),
    (re.compile(r"[,:](?!\d)"), r" \g<0> "),
    (re.compile(r"(?<=[^\s'])('s|'m|'d|'ll|'re|'ve|n't|')(?=\s|$)"), r" \1 "),
    (re.compile(r"\b(can)(not)\b|\b(gon|wan)(na)\b"), r" \1\3 \2\4 "),
]

_MOST = 2**20  # texts in a cache; COCO has 600,000 captions, about 200 MB


class Vocabulary:
    """Gives each word an id; id 0 is padding, and id 1 is any unknown word.

    Args:
        words: the known words; the first has id 2.
        split: one of :data:`SPLITS`, how a text becomes words.
        longest: words of a text at most, the rest is cut off; ``None`` keeps all.
    """

    def __init__(
        self, words: Sequence[str], split: str = "words", longest: int | None = None
    ) -> None:
        self.words = list(words)
        self.split = SPLITS[split]
        self.longest = longest
        self._ids = {word: i for i, word in enumerate(self.words, start=UNKNOWN + 1)}
        self._rows = TextCache(self._lookup)

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        min_count: int = 1,
        split: str = "words",
        longest: int | None = None,
    ) -> Vocabulary:
        """The words that occur at least ``min_count`` times, the most frequent first."""
        counts = Counter(word for text in texts for word in SPLITS[split](text))
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)), split, longest)

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
        rows = ([self.id(word) for word in self.split(text)[: self.longest]] for text in texts)
        return [array("i", row or [UNKNOWN]) for row in rows]


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case: ``"The dog's ball!"`` → ``the, dog's, ball``.

    Words are letters and digits of any script, with their combining marks, in Unicode's composed
    form; apostrophes within a word belong to it. Chinese and Japanese characters are words each.
    """
    text = text.lower().replace("’", "'")
    if text.isascii():
        return _WORD.findall(text)
    return word_pattern("'").findall(unicodedata.normalize("NFC", text))


@functools.cache
def word_pattern(joining: str, or_else: str = "") -> re.Pattern[str]:
    """What finds the words of texts in any script.

    Args:
        joining: the characters that may join letters to one word.
        or_else: a further pattern, for what else counts as a word.
    """
    # joiners within Persian and Indian words count as marks
    marks = "\u200c\u200d" + "".join(
        chr(code)
        for code in (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0))
        if unicodedata.category(chr(code)).startswith("M")
    )
    letters = rf"(?:(?![{_BY_CHARACTER}])[^\W_][{marks}]*)+"
    word = rf"[{_BY_CHARACTER}][{marks}]*|{letters}(?:[{joining}]{letters})*"
    return re.compile(f"{word}|{or_else}" if or_else else word)


def split_treebank(text: str) -> list[str]:
    """Tokens as in the Penn Treebank, in lower case, between :data:`START` and :data:`END`.

    ``"The dog's ball!"`` → ``<start>, the, dog, 's, ball, !, <end>``. Punctuation is split off,
    and so are the endings of contractions; the period of an abbreviation stays. VSE++, SCAN and
    their successors read texts so, through NLTK, whose sentence splitter knows more abbreviations.
    """
    text = text.lower()
    if not text.isascii():
        text = re.sub(f"[{_BY_CHARACTER}]", r" \g<0> ", unicodedata.normalize("NFC", text))
    spaced = _LAST_PERIOD.sub(_without_period, text)
    for pattern, replacement in _TREEBANK:
        spaced = pattern.sub(replacement, spaced)
    return [START, *spaced.split(), END]


def _without_period(match: re.Match[str]) -> str:
    word = match[1]
    return match[0] if _ABBREVIATION.fullmatch(word) else f"{word} ."


#: How a text becomes words.
SPLITS: dict[str, Callable[[str], list[str]]] = {"words": split_words, "treebank": split_treebank}


def words_of(text: str, split: str = "words", longest: int | None = None) -> list[Token]:
    """The words of a text as tokens; a text without words is one special token."""
    words = SPLITS[split](text)[:longest]
    return [Token(word, word in (START, END)) for word in words] or [Token("", special=True)]


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
