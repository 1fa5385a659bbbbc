"""The words of a text, and the numbers that a text encoder starts from, to be replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itm_lightning.encoders import BagOfWords, TextEncoder
from itm_lightning.encoders.base import Encoder, Token
from itm_lightning.encoders.vocabulary import UNKNOWN
from itm_lightning.errors import InputError
from itm_lightning.types import Features


class Word(NamedTuple):
    """A word and the tokens that are its pieces.

    Attributes:
        text: the word; of a mark, such as start or end, the tokeniser's name for it.
        tokens: indices of its pieces.
        special: whether it is a mark, and not part of the text.
    """

    text: str
    tokens: tuple[int, ...]
    special: bool


def joined(tokens: Sequence[Token]) -> list[Word]:
    """The words of a text's tokens.

    WordPiece marks what continues a word (``##``); SentencePiece (``▁``) and byte-level BPE (``Ġ``)
    mark what begins one; CLIP's BPE marks what ends one (``</w>``).
    """
    pieces = [token.text for token in tokens if not token.special]
    begins = next((mark for mark in "▁Ġ" if any(p.startswith(mark) for p in pieces)), None)
    has_ends = any(piece.endswith("</w>") for piece in pieces)
    words: list[Word] = []
    goes_on = False  # whether the word is unfinished
    for number, (piece, special) in enumerate(tokens):
        if special:
            words.append(Word(piece or "(whole text)", (number,), True))
            goes_on = False
            continue
        continues = goes_on and (
            not piece.startswith(begins) if begins else has_ends or piece.startswith("##")
        )
        text = piece.removeprefix("##").removesuffix("</w>")
        text = text.removeprefix(begins) if begins else text
        if continues:
            text, indices = words[-1].text + text, (*words[-1].tokens, number)
            words[-1] = Word(text, indices, False)
        else:
            words.append(Word(text, (number,), False))
        goes_on = not (has_ends and piece.endswith("</w>"))
    return words


def spans_of(words: Sequence[str], text: str) -> list[tuple[int, int] | None]:
    """Where a text's words stand in it: first character and the one after the last.

    Args:
        words: in the text's order, in any case; one that is not found (a mark, or an unknown word)
            has no span.
        text: raw.
    """
    spans: list[tuple[int, int] | None] = []
    start = 0
    for word in words:
        found = re.compile(re.escape(word), re.IGNORECASE).search(text, start) if word else None
        spans.append(found.span() if found else None)
        start = found.end() if found else start
    return spans


# -- inputs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextInputs:
    """A text as the numbers that its encoder starts from, one row a token, to be replaced.

    They are the word embeddings: of a recurrent network's or a transformer's later states, each
    has read the other words. Of :class:`~itm_lightning.encoders.BagOfWords` they are the columns
    that a word counts in.

    Attributes:
        values: ``(L, D)``.
        hidden: ``(L, D)``, the same with every word hidden: replaced by the encoder's unknown word
            or mask, and by zeros where it has neither. Marks such as start and end stay.
        first: index of the token of the first row.
        encode: the encoder's features of ``(N, L, D)``, for ``N`` versions of the text.
    """

    values: Tensor
    hidden: Tensor
    first: int
    encode: Callable[[Tensor], Features]

    def without(self, words: Iterable[Word]) -> Tensor:
        """The values with these words hidden, ``(L, D)``."""
        rows = [token - self.first for word in words for token in word.tokens]
        rows = [row for row in rows if row >= 0]
        replaced = self.values.clone()
        replaced[rows] = self.hidden[rows]
        return replaced


def text_inputs(encoder: TextEncoder, text: str) -> TextInputs:
    """The inputs of a text.

    Raises:
        InputError: the encoder has no table of word embeddings.
    """
    tokens = encoder.words([text])[0]
    if isinstance(encoder, BagOfWords):
        return _counted(encoder, text)
    table = _word_embeddings(encoder)
    values: list[Tensor] = []
    with torch.no_grad(), _output_of(table, values.append), with_gradient(encoder):
        encoder([text])
    first = len(tokens) - int(encoder.token_ids([text])[1].sum())
    embedded = values[0][0].detach()
    hidden = embedded.clone()
    number = encoder.hidden_id
    for row, token in enumerate(tokens[first:]):
        if not token.special:
            hidden[row] = 0 if number is None else table.weight[number].detach()

    def encode(replaced: Tensor) -> Features:
        with _output_of(table, lambda given: replaced), with_gradient(encoder):
            return encoder([text] * len(replaced))

    return TextInputs(embedded, hidden, first, encode)


def _word_embeddings(encoder: TextEncoder) -> nn.Embedding:
    """The encoder's table of word embeddings."""
    for module in encoder.modules():
        of_transformers: Any = getattr(module, "get_input_embeddings", None)
        if of_transformers is not None:
            return of_transformers()
    found = next((module for module in encoder.modules() if isinstance(module, nn.Embedding)), None)
    if found is None:
        raise InputError(
            f"{type(encoder).__name__} has no word embeddings (torch.nn.Embedding) that could be "
            "replaced: use --method contributions or alignment, with a head that has them"
        )
    return found


def _counted(encoder: BagOfWords, text: str) -> TextInputs:
    ids = encoder.token_ids([text])[0][0].to(encoder.device)
    columns = F.one_hot((ids - UNKNOWN - 1).clamp(min=0), encoder.dim)
    columns = (columns * (ids > UNKNOWN)[:, None]).to(encoder.column_weights)

    def encode(replaced: Tensor) -> Features:
        return encoder.weighted(replaced.sum(dim=1))

    return TextInputs(columns, torch.zeros_like(columns), 0, encode)


@contextmanager
def _output_of(module: nn.Module, replace: Callable[[Tensor], Any]) -> Iterator[None]:
    """Hands what the module returns to a function; what that returns, unless None, replaces it."""
    handle = module.register_forward_hook(lambda _, inputs, output: replace(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def with_gradient(encoder: Encoder) -> Iterator[None]:
    """Lets the gradient pass also where the trunk is frozen."""
    trainable, encoder.trainable = encoder.trainable, True
    try:
        yield
    finally:
        encoder.trainable = trainable
