"""The text models of transformers."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.encoders.base import TextEncoder, Token, tensors_sha256
from itm_lightning.encoders.pretrained import (
    JointSpace,
    freeze_unreached,
    load_model,
    read_tokeniser,
    rebuild_model,
    rebuild_tokeniser,
)
from itm_lightning.encoders.projection import Projection
from itm_lightning.encoders.stored_tokens import StoredTokens
from itm_lightning.encoders.vocabulary import TextCache, pad
from itm_lightning.encoders.word_noise import Substitutes, noisy
from itm_lightning.errors import InputError, Share, Size, one_line
from itm_lightning.part import ExtraState, is_skipping_pretrained
from itm_lightning.pooling import FirstPooling, Pooling
from itm_lightning.registry import register
from itm_lightning.types import Features
from itm_lightning.utils.pretrained_models import describe_model, load

READ_PADDING = {"siglip_text_model", "siglip2_text_model"}
"""Models that attend to padding, because they were trained on texts padded to full length."""

LONGEST = 512
"""The most tokens of a text by default; models may read fewer."""


class _Tokens(NamedTuple):
    """The ids of a text's tokens, and the number of the word each belongs to; -1 for none."""

    ids: array
    words: array


@register("text_encoder")
class PretrainedText(TextEncoder):
    """A text model of transformers (BERT, …), or the text half of CLIP or SigLIP.

    Its tokens are the last hidden state, the marks of start and end included.

    Args:
        name: local folder or hub name.
        trainable: whether the model is trained.
        max_length: the most tokens of a text; longer texts are cut. Where ``None``, as many as the
            model can read, but at most 512.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        word_noise: share of the words that training masks, replaces or deletes, as
            :func:`~itm_lightning.encoders.word_noise.noisy` says; VSE∞ uses 0.2.
        joint_space: for CLIP, SigLIP and similar models: give features in the space in which the
            model compares images and texts. The first token is then the model's own pooled vector,
            which is also the encoder's unless ``pooling`` is given. SigLIP maps no other vector:
            its further tokens are hidden states.
        store: folder in which a frozen model keeps the tokens of texts in float16, so that it runs
            once over each text for all epochs and all runs. Training makes the folder; where it is
            missing, evaluation does without.
        projection: maps the tokens before they are pooled; none by default.

    Raises:
        InputError: there is no such model, it has no tokeniser, it does not take text, it reads
            fewer tokens than ``max_length``, or ``joint_space`` is set for a model without a joint
            space; ``word_noise`` is not between 0 and 1, or the tokeniser does not support it; or
            ``store`` is set although the tokens change.
    """

    def __init__(
        self,
        name: str,
        trainable: bool = True,
        max_length: Size | None = None,
        pooling: Pooling | None = None,
        word_noise: Share = 0.0,
        joint_space: bool = False,
        store: str | None = None,
        projection: Projection | None = None,
    ) -> None:
        if joint_space and pooling is None:
            pooling = FirstPooling()
        super().__init__(trainable, pooling, projection)
        self.joint_space = joint_space
        self.name = name
        self.max_length = max_length
        self.word_noise = word_noise
        if store is not None and (trainable or word_noise):
            raise InputError(
                "PretrainedText stores the tokens of a frozen model without noise: set trainable: "
                "false and word_noise: 0, or leave store out"
            )
        self.store = store
        self._stored: StoredTokens | None = None
        self._store_folder: Path | None = None  # named by a hash of all weights: computed once
        self._model: ExtraState = {}
        self._files: dict[str, str] = {}
        if not is_skipping_pretrained():
            self._build(*self._pretrained())

    def extra_state(self) -> ExtraState:
        """The model's architecture and its tokeniser's files."""
        return {"model": self._model, "tokeniser": self._files}

    def load_extra_state(self, state: ExtraState) -> None:
        """Builds the model with random weights, and the tokeniser, without files or the hub."""
        if state != self.extra_state():
            self._build(rebuild_model(state["model"]), state["tokeniser"])

    def forward(self, texts: list[str]) -> Features:
        """Features of ``B`` texts, one token a piece of a word."""
        stored = None if self.trainable else self._stored_tokens()  # explanations change its inputs
        tokens, mask = self._encode(texts) if stored is None else stored(texts, self._encode)
        return self._pooled(tokens.to(self.device), mask.to(self.device))

    def _encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """The model's tokens ``(B, L, D)`` and their mask."""
        ids, mask = (side.to(self.device) for side in self._read(texts))
        with self._trunk_gradient():
            tokens = _tokens(self.network, ids, None if self._reads_padding else mask)
        return tokens, F.pad(mask, (1, 0), value=True) if self.joint_space else mask

    def _stored_tokens(self) -> StoredTokens | None:
        """The stored tokens, opened at the first use: by then the weights are there."""
        if self.store is None or self._stored is not None:
            return self._stored
        if self._store_folder is None:
            of = [tensors_sha256(self.network), self._files, self._length, self.joint_space]
            name = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
            self._store_folder = Path(self.store) / name
        if self.training or self._store_folder.is_dir():
            self._stored = StoredTokens(self._store_folder, self.trunk_dim)
        return self._stored

    def _pretrained(self) -> tuple[Any, dict[str, str]]:
        """The model and the files of its tokeniser."""
        from transformers import AutoTokenizer

        tokeniser = load(AutoTokenizer.from_pretrained, self.name)
        # without its files, transformers makes one that knows marks alone, and the bare "▁"
        if not set(tokeniser.get_vocab()) - {*tokeniser.all_special_tokens, "▁"}:
            raise InputError(
                f"{self.name} has no tokeniser: every word would be unknown; save it there too, "
                "with the tokeniser's save_pretrained"
            )
        return load_model(self.name), read_tokeniser(tokeniser)

    def _build(self, model: Any, files: dict[str, str]) -> None:
        self._model, self._files = describe_model(model), files
        self._tokeniser = rebuild_tokeniser(files, model.config)
        network = self._network(model).eval()
        self._length = self._checked_length(network.config)
        self._reads_padding = network.config.model_type in READ_PADDING
        self._padding = self._tokeniser.pad_token_id or 0
        self._substitutes = self._checked_substitutes() if self.word_noise else None
        self._rows = TextCache(self._tokenise)
        try:
            with torch.enable_grad():
                ids = torch.zeros(1, 2, dtype=torch.int64)
                tokens = _tokens(network, ids, torch.ones_like(ids))
        except (TypeError, ValueError, RuntimeError) as error:
            message = f"PretrainedText cannot read text with {self.name}: {one_line(error)}"
            raise InputError(message) from error
        self._adopt(network, tokens.shape[-1])
        freeze_unreached(network, tokens)

    def _network(self, model: Any) -> Any:
        if not self.joint_space:
            return _text_half(model)
        if not hasattr(model, "text_model"):
            raise InputError(f"{self.name} has no joint space: set joint_space: false")
        return JointSpace(model.text_model, getattr(model, "text_projection", nn.Identity()))

    @override
    def token_ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return pad([row.ids for row in self._rows(texts)], self._padding)

    @override
    def words(self, texts: list[str]) -> list[list[Token]]:
        tokeniser = self._tokeniser
        special = set(tokeniser.all_special_ids) - {tokeniser.unk_token_id}
        whole = [Token("", special=True)] if self.joint_space else []
        return [
            whole
            + [
                Token(piece, number in special)
                for number, piece in zip(
                    row.ids, tokeniser.convert_ids_to_tokens(list(row.ids)), strict=True
                )
            ]
            for row in self._rows(texts)
        ]

    @property
    @override
    def hidden_id(self) -> int | None:
        """That of the mask, or of the unknown word where it marks neither start nor end."""
        tokeniser = self._tokeniser
        ends = {None, tokeniser.bos_token_id, tokeniser.eos_token_id, tokeniser.pad_token_id}
        marks = tokeniser.mask_token_id, tokeniser.unk_token_id
        return next((mark for mark in marks if mark not in ends), None)

    @property
    @override
    def unknown_id(self) -> int | None:
        return self._tokeniser.unk_token_id

    @override
    def count_cut(self, texts: Sequence[str]) -> int:
        long = [text for text in texts if len(text) > self._length]  # in characters
        ids = self._tokeniser(long, verbose=False)["input_ids"] if long else []
        return sum(len(row) > self._length for row in ids)

    def _checked_length(self, config: Any) -> int:
        positions = getattr(config, "max_position_embeddings", None)
        longest = min(self._tokeniser.model_max_length, positions or LONGEST)
        if self.max_length is None:
            return min(longest, LONGEST)
        if self.max_length > longest:
            raise InputError(
                f"{self.name} reads at most {longest} tokens; max_length is {self.max_length}"
            )
        return self.max_length

    def _checked_substitutes(self) -> Substitutes:
        tokeniser, hidden = self._tokeniser, self.hidden_id
        if hidden is None or not tokeniser.is_fast:
            raise InputError(
                f"the tokeniser of {self.name} knows neither a mask nor an unknown word, or not "
                "which tokens are a word: set word_noise: 0"
            )
        special = set(tokeniser.all_special_ids)
        words = torch.tensor([i for i in range(len(tokeniser)) if i not in special])
        return Substitutes(hidden, words, self._padding)

    def _read(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask ``(B, L)`` of the texts; in training, with noise."""
        rows = self._rows(texts)
        ids, mask = pad([row.ids for row in rows], self._padding)
        if self.training and self._substitutes is not None:
            words, _ = pad([row.words for row in rows], -1)
            ids, mask = noisy(ids, mask, words, self.word_noise, self._substitutes)
        if self._reads_padding:
            missing = (0, self._length - ids.shape[1])
            ids, mask = F.pad(ids, missing, value=self._padding), F.pad(mask, missing)
        return ids, mask

    def _tokenise(self, texts: list[str]) -> list[_Tokens]:
        encoded = self._tokeniser(texts, truncation=True, max_length=self._length)
        return [
            self._row(ids, encoded.word_ids(number) if self._substitutes else ())
            for number, ids in enumerate(encoded["input_ids"])
        ]

    def _row(self, ids: list[int], words: Sequence[int | None]) -> _Tokens:
        if not ids:  # an empty text, and the tokeniser marks neither start nor end
            return _Tokens(array("i", [self._tokeniser.unk_token_id or 0]), array("i", [-1]))
        return _Tokens(array("i", ids), array("i", (-1 if w is None else w for w in words)))


def _text_half(model: Any) -> Any:
    half = getattr(model, "text_model", model)
    # a translator such as T5 has an encoder and a decoder
    return half.get_encoder() if half.config.is_encoder_decoder else half


def _tokens(network: nn.Module, ids: Tensor, mask: Tensor | None) -> Tensor:
    output = network(input_ids=ids, attention_mask=mask)
    return (
        output if isinstance(output, Tensor) else output.last_hidden_state
    )  # JointSpace returns tokens
