"""FashionBERT: the words and patches of a pair in one BERT."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.part import ExtraState, is_skipping_pretrained
from itm_lightning.registry import register
from itm_lightning.similarity.cross_encoder import CrossEncoder, Embedded, joined
from itm_lightning.similarity.functional import of_width
from itm_lightning.types import Features, at_least_float32, full_precision
from itm_lightning.utils.pretrained_models import describe_model, load

_HEAD_WIDTH = 64  # of one attention head of BERT
_DEVIATION = 0.02  # of BERT's initial weights
_TEXT, _IMAGE = 0, 1  # BERT's types of segments
_Config = dict[str, Any]


@register("similarity")
class FashionBERT(CrossEncoder):
    """BERT reads the words of a text and then the patches of an image; the score is its verdict.

    Gao et al.: "FashionBERT: Text and Image Matching with Adaptive Loss for Cross-modal Retrieval",
    SIGIR 2020, section 3.1. Words and patches each get a learnt embedding of their position and of
    their side, and layer normalisation; ``[CLS]``, the text's first token, passes the pooler of
    BERT. A linear layer then gives the log-odds that the two match: as good for ranking as the
    published probability, which rounds to 1.

    The text encoder gives the embeddings of the word pieces
    (:class:`~itm_lightning.encoders.WordPieces`), the image encoder patches (published: 8 × 8 of
    them, each through a ResNet-50 by itself), which the image projection brings to BERT's width.
    :class:`~itm_lightning.objectives.FashionBERTLoss` trains it.

    Args:
        dim: width of BERT and of what it reads.
        name: local folder or hub name of the BERT whose weights it starts from
            (``bert-base-uncased``, as published); random weights where ``None``.
        layers: of a BERT with random weights.
        patches: the most patches of an image.

    Raises:
        InputError: there is no such BERT or it has another width, or ``dim`` or a number is out of
            range.
    """

    def __init__(
        self, dim: Size, name: str | None = None, layers: Size = 12, patches: Size = 64
    ) -> None:
        super().__init__()
        heads = max(1, dim // _HEAD_WIDTH)
        if dim % heads:
            raise InputError(
                f"FashionBERT: dim is {dim}; give a multiple of {_HEAD_WIDTH}, or less than it"
            )
        self.dim: int = dim
        self.patches = patches
        self._config: _Config = {}
        if name is None:
            sizes = {"hidden_size": dim, "intermediate_size": 4 * dim, "vocab_size": 1}
            layout = {"num_hidden_layers": layers, "num_attention_heads": heads}
            self._build({**sizes, **layout, "initializer_range": _DEVIATION})
        elif not is_skipping_pretrained():
            self._start_from(name)

    @override
    def extra_state(self) -> ExtraState:
        """BERT's architecture, which may be that of a model that is not at hand."""
        return {"config": self._config}

    @override
    def load_extra_state(self, state: ExtraState) -> None:
        if state != self.extra_state():
            self._build(state["config"])

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return (regions + words) * self._config["intermediate_size"]

    @override
    def prepare_images(self, images: Features) -> Embedded:
        tokens, _ = self.tokens(images)
        if tokens.shape[1] > self.patches:
            raise InputError(
                f"FashionBERT(patches={self.patches}) got an image of {tokens.shape[1]} patches: "
                "set model.similarity.patches to as many"
            )
        return self._embedded(images, self.patch_positions, self.image_norm, _IMAGE)

    @override
    def prepare_texts(self, texts: Features) -> Embedded:
        return self._embedded(texts, self.word_positions, self.text_norm, _TEXT)

    @override
    def pair_scores(self, images: Embedded, texts: Embedded) -> Tensor:
        return self.log_odds(self.states(images, texts))

    def states(self, images: Embedded, texts: Embedded) -> Tensor:
        """BERT's last hidden states ``(B, L + R, dim)`` of prepared pairs, words before patches."""
        tokens, mask = joined(texts, images)
        return self.bert(inputs_embeds=tokens, attention_mask=mask).last_hidden_state

    def log_odds(self, states: Tensor) -> Tensor:
        """``(B,)``, of the probability that a pair matches, from its ``states (B, L + R, dim)``."""
        pooled = self.pooler(states[:, 0]).tanh()
        with full_precision(pooled):
            weight, bias = (at_least_float32(p) for p in (self.match.weight, self.match.bias))
            return F.linear(at_least_float32(pooled), weight, bias).squeeze(-1)

    def _embedded(
        self, features: Features, positions: nn.Embedding, norm: nn.LayerNorm, side: int
    ) -> Embedded:
        tokens, mask = self.tokens(features)
        tokens = of_width(self.dim, tokens, self).masked_fill(~mask.unsqueeze(-1), 0)
        places = positions.weight[: tokens.shape[1]] + self.types.weight[side]
        return Embedded(self.dropout(norm(tokens.to(places.dtype) + places)), mask)

    def _build(self, config: _Config) -> None:
        from transformers import BertConfig, BertModel

        self._config = config
        settings = BertConfig.from_dict(config)
        bert: Any = BertModel(settings, add_pooling_layer=False)
        bert.embeddings = _Embedded()
        self.bert = bert
        self.word_positions = nn.Embedding(settings.max_position_embeddings, self.dim)
        self.patch_positions = nn.Embedding(self.patches, self.dim)
        self.types = nn.Embedding(2, self.dim)
        self.text_norm, self.image_norm = (
            nn.LayerNorm(self.dim, settings.layer_norm_eps) for _ in range(2)
        )
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)
        self.pooler, self.match = nn.Linear(self.dim, self.dim), nn.Linear(self.dim, 1)
        new = self.word_positions, self.patch_positions, self.types, self.pooler, self.match
        for part in new:
            nn.init.normal_(part.weight, std=_DEVIATION)

    def _start_from(self, name: str) -> None:
        from transformers import BertModel

        model = load(BertModel.from_pretrained, name).float()
        if model.config.hidden_size != self.dim:
            raise InputError(
                f"FashionBERT: {name} is {model.config.hidden_size} wide, but dim is {self.dim}: "
                f"set model.dim to {model.config.hidden_size}"
            )
        self._build(describe_model(model))
        embeddings = model.embeddings
        self.word_positions.load_state_dict(embeddings.position_embeddings.state_dict())
        self.types.load_state_dict(embeddings.token_type_embeddings.state_dict())
        for norm in (self.text_norm, self.image_norm):
            norm.load_state_dict(embeddings.LayerNorm.state_dict())
        self.bert.encoder.load_state_dict(model.encoder.state_dict())
        self.pooler.load_state_dict(model.pooler.dense.state_dict())


class _Embedded(nn.Module):
    """Stands where BERT embeds ids: the head has embedded the words and patches already."""

    def forward(self, inputs_embeds: Tensor, **others: Any) -> Tensor:
        """The embeddings, as they are."""
        return inputs_embeds
