"""A layer of a transformer, whose queries may be fewer than the tokens they look at."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 64  # of one attention head, as in BERT and ViT
WIDENING = 4  # of the feed-forward layer


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each added to what it reads.

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

    def forward(self, asking: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The new ``(B, A, W)`` of the tokens that ask.

        Args:
            asking: ``(B, A, W)``.
            tokens: ``(B, K, W)``, those looked at.
            mask: ``(B, K)`` bool, ``True`` at real tokens; one in each row at least.
        """
        asking = asking + self._attention(asking, tokens, mask)
        return asking + self.feed_forward(asking)

    def _attention(self, asking: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        query = _by_head(self.query(self.attention_norm(asking)))
        key, value = self.key_value(self.attention_norm(tokens)).chunk(2, dim=-1)
        found = F.scaled_dot_product_attention(
            query, _by_head(key), _by_head(value), attn_mask=mask[:, None, None]
        )
        return self.output(found.transpose(1, 2).flatten(2))


def _by_head(tokens: Tensor) -> Tensor:
    """``(B, heads, L, 64)`` of ``(B, L, W)``."""
    return tokens.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)
