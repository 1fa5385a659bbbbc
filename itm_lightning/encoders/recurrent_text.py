"""A recurrent network over word embeddings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

from itm_lightning.encoders.base import TextEncoder, Token
from itm_lightning.encoders.vocabulary import (
    END,
    PADDING,
    SPLITS,
    START,
    UNKNOWN,
    Vocabulary,
    required,
    words_of,
)
from itm_lightning.encoders.word_noise import Substitutes, noisy
from itm_lightning.encoders.word_vectors import check_vectors, read_vectors
from itm_lightning.errors import InputError, Share, Size
from itm_lightning.part import ExtraState, is_skipping_pretrained
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register
from itm_lightning.types import Features

logger = logging.getLogger(__name__)

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


@register("text_encoder")
class RecurrentText(TextEncoder):
    """An LSTM or GRU over word embeddings; the state at each word is a token.

    The vocabulary is learnt from the training texts by :meth:`learn_vocabulary`.

    Args:
        cell: ``"lstm"`` or ``"gru"``.
        hidden: width of the state, in each direction.
        layers: number of recurrent layers.
        bidirectional: also read from the end.
        directions: ``"concat"`` puts the states of both directions side by side, so that tokens are
            twice as wide; ``"mean"`` takes their mean, as SCAN (Lee et al. 2018, section 3.2) does.
        word_dim: width of the word embeddings.
        dropout: share of the word embeddings' numbers that training sets to zero.
        unknown_rate: share of the words that training replaces by the unknown word, so that its
            embedding learns too.
        word_noise: share of the words that training makes unknown, replaces or deletes, as
            :func:`~itm_lightning.encoders.word_noise.noisy` says; VSE∞ uses 0.2.
        split: how texts become words. ``"words"``: letters and digits alone; ``"treebank"``: with
            punctuation and marks of start and end, see
            :func:`~itm_lightning.encoders.vocabulary.split_treebank`.
        min_count: words that occur less often are unknown.
        vectors: text file of GloVe or word2vec vectors to start the embeddings from.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        max_length: the most words of a text; longer texts are cut, and a warning counts them.

    Raises:
        InputError: the cell is unknown, the vectors file is missing or of another width, or
            ``word_noise`` is not between 0 and 1.
    """

    def __init__(
        self,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: Size = 512,
        layers: Size = 1,
        bidirectional: bool = True,
        word_dim: Size = 300,
        dropout: Share = 0.0,
        unknown_rate: Share = 0.0,
        min_count: Size = 1,
        vectors: str | None = None,
        pooling: Pooling | None = None,
        word_noise: Share = 0.0,
        directions: Literal["concat", "mean"] = "concat",
        split: Literal["words", "treebank"] = "words",
        max_length: Size = 512,
    ) -> None:
        super().__init__(pooling=pooling)
        if cell not in CELLS:
            raise InputError(f"RecurrentText: there is no cell {cell!r}; use one of {list(CELLS)}")
        if vectors is not None and not is_skipping_pretrained():
            check_vectors(vectors, word_dim)
        self.word_dim = word_dim
        self.split: str = split
        self.averages = bidirectional and directions == "mean"
        self.unknown_rate = unknown_rate
        self.word_noise = word_noise
        self.min_count = min_count
        self.max_length = max_length
        self.vectors = vectors
        self.vocabulary: Vocabulary | None = None
        self.dropout = nn.Dropout(dropout)
        network = CELLS[cell](
            word_dim, hidden, layers, batch_first=True, bidirectional=bidirectional
        )
        self._adopt(network, hidden * (2 if bidirectional and not self.averages else 1))

    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        """Learns the words, unless there is a vocabulary, which may have trained embeddings.

        Raises:
            InputError: the vectors file is malformed.
        """
        if self.vocabulary is not None:
            return
        self._set_vocabulary(Vocabulary.learn(texts, self.min_count, self.split, self.max_length))
        if self.vectors is not None:
            self._load_vectors(self.vectors)

    def extra_state(self) -> ExtraState:
        """The words, in the order of their embeddings."""
        return {} if self.vocabulary is None else {"vocabulary": self.vocabulary.words}

    def load_extra_state(self, state: ExtraState) -> None:
        """Sets the words; their embeddings are random until ``load_state_dict``."""
        if state != self.extra_state():
            self._set_vocabulary(Vocabulary(state["vocabulary"], self.split, self.max_length))

    def forward(self, texts: list[str]) -> Features:
        """Features of ``B`` texts, one token a word.

        Raises:
            InputError: there is no vocabulary yet.
        """
        ids, mask = self._with_noise(*self.token_ids(texts))
        lengths = mask.sum(dim=1)  # packing needs them on the CPU
        ids, mask = ids.to(self.device), mask.to(self.device)
        words = self.dropout(self.embedding(self._with_unknown(ids, mask)))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        tokens, _ = pad_packed_sequence(self.network(packed)[0], batch_first=True)
        if self.averages:
            tokens = tokens.unflatten(-1, (2, -1)).mean(dim=-2)
        return self._pooled(tokens, mask)

    @override
    def token_ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return required(self.vocabulary, self).encode(texts)

    @property
    @override
    def hidden_id(self) -> int:
        return UNKNOWN

    @property
    @override
    def unknown_id(self) -> int:
        return UNKNOWN

    @override
    def words(self, texts: list[str]) -> list[list[Token]]:
        return [words_of(text, self.split, self.max_length) for text in texts]

    @override
    def count_cut(self, texts: Sequence[str]) -> int:
        long = (text for text in texts if len(text) > self.max_length)  # in characters
        return sum(len(SPLITS[self.split](text)) > self.max_length for text in long)

    def _with_noise(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """In training, makes a random share of the words unknown, replaces or deletes them."""
        if not self.training or self.word_noise == 0:
            return ids, mask
        assert self.vocabulary is not None
        known = torch.arange(UNKNOWN + 1, len(self.vocabulary))
        words = torch.arange(ids.shape[1]).expand_as(ids)
        if self.split == "treebank":  # start and end belong to no word
            marks = torch.tensor([self.vocabulary.id(mark) for mark in (START, END)])
            words = words.masked_fill(torch.isin(ids, marks), -1)
        return noisy(ids, mask, words, self.word_noise, Substitutes(UNKNOWN, known, PADDING))

    def _with_unknown(self, ids: Tensor, mask: Tensor) -> Tensor:
        """In training, makes a random share of the words unknown."""
        if not self.training or self.unknown_rate == 0:
            return ids
        chosen = torch.rand(ids.shape, device=ids.device) < self.unknown_rate
        return ids.masked_fill(chosen & mask, UNKNOWN)

    def _set_vocabulary(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        embedding = nn.Embedding(len(vocabulary), self.word_dim, padding_idx=PADDING)
        nn.init.uniform_(embedding.weight[UNKNOWN:], -0.1, 0.1)
        self.embedding = embedding.to(self.device)

    @torch.no_grad()
    def _load_vectors(self, path: str) -> None:
        assert self.vocabulary is not None
        found = read_vectors(path, set(self.vocabulary.words), self.word_dim)
        for word, vector in found.items():
            self.embedding.weight[self.vocabulary.id(word)] = torch.tensor(vector)
        logger.info("%s: %d of %d words found", path, len(found), len(self.vocabulary.words))
