"""TransformerMatching: a small transformer on the regions and words of a pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register
from itm_lightning.similarity.cross_encoder import CrossEncoder, Embedded, joined
from itm_lightning.similarity.functional import of_width
from itm_lightning.types import Features, at_least_float32, full_precision, unit_tokens

HEAD_WIDTH = 64  # of one attention head, as in BERT and ViT
WIDENING = 4  # of the feed-forward layer


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each added to its input.

    Vaswani et al.: "Attention Is All You Need", NeurIPS 2017, with the norms before and not after
    (Xiong et al.: "On Layer Normalization in the Transformer Architecture", ICML 2020).

    Args:
        width: of the tokens; a multiple of 64.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, WIDENING * width),
            nn.GELU(),
            nn.Linear(WIDENING * width, width),
        )

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The queries ``(B, A, W)`` after this layer.

        Args:
            queries: ``(B, A, W)``.
            tokens: ``(B, K, W)``, which the queries attend to.
            mask: ``(B, K)`` bool, ``True`` at real tokens; one in each row at least.
        """
        queries = queries + self._attention(queries, tokens, mask)
        return queries + self.feed_forward(queries)

    def _attention(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        query = _by_head(self.query(self.attention_norm(queries)))
        key, value = self.key_value(self.attention_norm(tokens)).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            query, _by_head(key), _by_head(value), attn_mask=mask[:, None, None]
        )
        return self.output(attended.transpose(1, 2).flatten(2))


def _by_head(tokens: Tensor) -> Tensor:
    """``(B, heads, L, 64)`` of ``(B, L, W)``."""
    return tokens.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)


@register("similarity")
class TransformerMatching(CrossEncoder):
    """A transformer reads a score token and both sides' tokens; a linear layer scores the former.

    ``w · LN(transformer([s; v_1 + e_V, …; t_1 + e_T, …])_s) + b``: the matching head of one-stream
    models (Chen et al., "UNITER: UNiversal Image-TExt Representation Learning", ECCV 2020, section
    3.1 and "Image-Text Matching"; Li et al., "VisualBERT", 2019), small, on top of any encoders.

    Tokens are scaled to length 1, mapped to the transformer's width, and marked by a learnt
    embedding of their side; positions are left to the encoders.

    Args:
        dim: width of the tokens.
        width: width of the transformer; a multiple of 64, the width of an attention head.
        layers: how many.

    Raises:
        InputError: the width is no multiple of 64, or there are no layers.
    """

    def __init__(self, dim: Size, width: Size = 256, layers: Size = 2) -> None:
        super().__init__()
        if width % HEAD_WIDTH:
            raise InputError(
                f"TransformerMatching: width must be a multiple of {HEAD_WIDTH}, not {width}"
            )
        self.dim: int = dim
        self.width = width
        self.projection = nn.Linear(dim, width)
        self.image_type = nn.Parameter(0.02 * torch.randn(width))  # BERT's deviation
        self.text_type = nn.Parameter(0.02 * torch.randn(width))
        self.score_token = nn.Parameter(torch.randn(width))
        self.embedded_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(TransformerLayer(width) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.evaluate = nn.Linear(width, 1)

    @override
    def pair_elements(self, regions: int, words: int, dim: int) -> int:
        return (1 + regions + words) * WIDENING * self.width

    @override
    def prepare_images(self, images: Features) -> Embedded:
        return self._embedded(images, self.image_type)

    @override
    def prepare_texts(self, texts: Features) -> Embedded:
        return self._embedded(texts, self.text_type)

    def _embedded(self, features: Features, kind: Tensor) -> Embedded:
        tokens, mask = self.tokens(features)
        tokens = unit_tokens(of_width(self.dim, tokens, self), mask)
        with full_precision(tokens):
            projected = self.projection(tokens.to(kind.dtype))
            return Embedded(self.embedded_norm(projected + kind), mask)

    @override
    def pair_scores(self, images: Embedded, texts: Embedded) -> Tensor:
        start = Embedded(
            self.score_token.expand(len(images), 1, -1), images.mask.new_ones(len(images), 1)
        )
        tokens, mask = joined(start, images, texts)
        *earlier, last = self.layers
        for layer in earlier:
            tokens = layer(tokens, tokens, mask)
        # after the last layer only the score token is needed
        score_tokens = last(tokens[:, :1], tokens, mask).squeeze(1)
        with full_precision(score_tokens):
            return at_least_float32(self.evaluate(self.final_norm(score_tokens)).squeeze(-1))
