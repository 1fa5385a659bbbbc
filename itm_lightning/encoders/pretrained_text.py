"""Any text model of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from itm_lightning.encoders.base import Assets, TextEncoder, is_restoring
from itm_lightning.encoders.captions import CaptionCache, pad
from itm_lightning.encoders.pretrained import (
    describe_model,
    freeze_unreached,
    load,
    load_model,
    rebuild_model,
)
from itm_lightning.encoders.tokeniser_files import read_tokeniser, rebuild_tokeniser
from itm_lightning.errors import InputError, one_line
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register
from itm_lightning.types import Features

READ_PADDING = {"siglip_text_model", "siglip2_text_model"}
"""Models trained on text padded to the full length, in which they attend to the padding."""

LONGEST = 512
"""Most tokens of a caption, unless the model reads fewer or ``max_length`` says otherwise."""


@register("text_encoder")
class PretrainedText(TextEncoder):
    """A text model of transformers (BERT, …), or the text half of CLIP or SigLIP.

    Its tokens are the last hidden state, those that mark start and end included.

    Args:
        name: local folder or hub name.
        trainable: whether the model learns.
        max_length: longer captions are cut to so many tokens; what the model can read, at most
            512, where ``None``.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.

    Raises:
        InputError: there is no such model, it is none for text, or it reads less than
            ``max_length``.
    """

    def __init__(
        self,
        name: str,
        trainable: bool = True,
        max_length: int | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__(trainable, pooling)
        self.name = name
        self.max_length = max_length
        self._model: Assets = {}
        self._files: dict[str, str] = {}
        if not is_restoring():
            from transformers import AutoTokenizer

            tokeniser = load(AutoTokenizer.from_pretrained, name)
            self._build(load_model(name), read_tokeniser(tokeniser))

    def assets(self) -> Assets:
        """The model's architecture, and its tokeniser's files as text."""
        return {"model": self._model, "tokeniser": self._files}

    def restore(self, assets: Assets) -> None:
        """Builds the model, with random weights, and the tokeniser; reads no file, no hub."""
        if assets != self.assets():
            self._build(rebuild_model(assets["model"]), assets["tokeniser"])

    def forward(self, captions: list[str]) -> Features:
        """Features of ``B`` captions, one token a word piece."""
        length = self._length if self._reads_padding else None
        ids, mask = pad(self._rows(captions), self._tokeniser.pad_token_id or 0, length)
        ids, mask = ids.to(self.device), mask.to(self.device)
        with self._trunk_gradient():
            tokens = _tokens(self.network, ids, None if self._reads_padding else mask)
        return Features(tokens, mask, self.pooling(tokens, mask))

    def _build(self, model: Any, files: dict[str, str]) -> None:
        self._model, self._files = describe_model(model), files
        self._tokeniser = rebuild_tokeniser(files, model.config)
        network = _text_half(model).eval()
        self._length = self._checked_length(network.config)
        self._reads_padding = network.config.model_type in READ_PADDING
        self._rows = CaptionCache(self._tokenise, empty=self._tokeniser.unk_token_id or 0)
        try:
            with torch.enable_grad():
                ids = torch.zeros(1, 2, dtype=torch.int64)
                tokens = _tokens(network, ids, torch.ones_like(ids))
        except (TypeError, ValueError, RuntimeError) as error:
            message = f"PretrainedText cannot read text with {self.name}: {one_line(error)}"
            raise InputError(message) from error
        self._adopt(network, tokens.shape[-1])
        freeze_unreached(network, tokens)

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

    def _tokenise(self, captions: list[str]) -> list[list[int]]:
        return self._tokeniser(captions, truncation=True, max_length=self._length)["input_ids"]


def _text_half(model: Any) -> Any:
    half = getattr(model, "text_model", model)
    # of a translator such as T5, only the part that reads
    return half.get_encoder() if half.config.is_encoder_decoder else half


def _tokens(network: nn.Module, ids: Tensor, mask: Tensor | None) -> Tensor:
    return network(input_ids=ids, attention_mask=mask).last_hidden_state
