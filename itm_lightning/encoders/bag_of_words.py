"""Counts of words: a text encoder that needs no training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.encoders.base import TextEncoder, Token
from itm_lightning.encoders.vocabulary import UNKNOWN, Vocabulary, required, split_words, words_of
from itm_lightning.errors import InputError, Size
from itm_lightning.part import ExtraState
from itm_lightning.registry import register
from itm_lightning.types import Features

_WEIGHTINGS = ("tfidf", "counts")


@register("text_encoder")
class BagOfWords(TextEncoder):
    """One number for each word of the vocabulary: how often the text has it; no tokens.

    The vocabulary is learnt from the training texts by :meth:`learn_vocabulary`. Words outside of
    it do not count, so a text of such words only is a vector of zeros.

    Args:
        weighting: ``"counts"``, or ``"tfidf"``: each count times ``ln((1 + n) / (1 + df)) + 1``,
            where ``df`` of the ``n`` training texts have the word, and then the vector scaled to
            length 1 (Salton and Buckley 1988, in the smoothed form of scikit-learn).
        min_count: words that occur less often in the training texts are left out.
        dim: width of the vectors: the most frequent words have a column each, the first word
            column 0. Where there are fewer words, the columns on the right are zero.

    Raises:
        InputError: the weighting is unknown, or ``dim`` is below 1.
    """

    def __init__(
        self,
        weighting: Literal["tfidf", "counts"] = "tfidf",
        min_count: Size = 1,
        dim: Size = 2048,
    ) -> None:
        super().__init__(trainable=False)
        if weighting not in _WEIGHTINGS:
            raise InputError(
                f"BagOfWords: there is no weighting {weighting!r}; use one of {list(_WEIGHTINGS)}"
            )
        self.weighting = weighting
        self.min_count = min_count
        self.vocabulary: Vocabulary | None = None
        self._adopt(nn.Identity(), dim)
        self.column_weights: Tensor
        self.register_buffer("column_weights", torch.ones(dim))

    @property
    @override
    def device(self) -> torch.device:
        return self.column_weights.device

    @override
    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        """Learns the words and how many texts have each, unless there is a vocabulary."""
        if self.vocabulary is not None:
            return
        texts = list(texts)
        words = Vocabulary.learn(texts, self.min_count).words[: self.dim]
        self.vocabulary = Vocabulary(words)
        if self.weighting == "tfidf":
            self.column_weights[: len(words)] = inverse_document_frequencies(words, texts)

    @override
    def extra_state(self) -> ExtraState:
        return {} if self.vocabulary is None else {"vocabulary": self.vocabulary.words}

    @override
    def load_extra_state(self, state: ExtraState) -> None:
        if state != self.extra_state():
            self.vocabulary = Vocabulary(state["vocabulary"])

    @override
    def token_ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return required(self.vocabulary, self).encode(texts)

    @property
    @override
    def unknown_id(self) -> int:
        return UNKNOWN

    @override
    def words(self, texts: list[str]) -> list[list[Token]]:
        return [words_of(text) for text in texts]

    @override
    def forward(self, texts: list[str]) -> Features:
        """Pooled vectors of ``B`` texts.

        Raises:
            InputError: there is no vocabulary yet.
        """
        return self.weighted(self._counts(texts).to(self.column_weights))

    def weighted(self, counts: Tensor) -> Features:
        """Pooled vectors of counts ``(B, dim)``."""
        vectors = counts * self.column_weights
        if self.weighting == "tfidf":
            vectors = F.normalize(vectors, dim=1)
        return Features.from_pooled(vectors)

    def _counts(self, texts: list[str]) -> Tensor:
        """How often each text has each word of the vocabulary, ``(B, dim)`` on the CPU."""
        ids, _ = self.token_ids(texts)
        is_known = (ids > UNKNOWN).float()
        columns = (ids - UNKNOWN - 1).clamp(min=0)
        return torch.zeros(len(texts), self.dim).scatter_add(1, columns, is_known)


def inverse_document_frequencies(words: Sequence[str], texts: Sequence[str]) -> Tensor:
    """``ln((1 + n) / (1 + df)) + 1`` of each word, ``(V,)`` float64.

    Args:
        words: ``V`` words.
        texts: ``n`` texts, of which ``df`` have the word.
    """
    having = Counter(word for text in texts for word in set(split_words(text)))
    frequencies = torch.tensor([having[word] for word in words], dtype=torch.float64)
    return ((1 + len(texts)) / (1 + frequencies)).log() + 1
