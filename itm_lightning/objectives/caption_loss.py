"""CaptionLoss: the regions of an image should suffice to write its text."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, Share, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.caption_vocabulary import PADDING, START, CaptionVocabulary
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.part import ExtraState
from itm_lightning.registry import register
from itm_lightning.types import Features, Widths


@register("objective")
class CaptionLoss(FeatureObjective):
    """``-log P(text | regions)``, summed over the text's words, the mean over the batch's texts.

    The text generation loss of VSRN (Li et al., ICCV 2019), there added with weight 1.
    After the authors' code, which builds on the sequence-to-sequence model of Venugopalan et al.
    (2015): a GRU reads the regions; a second one, which starts at its last state, predicts each
    word from the word before and a weighted mean of the first one's states. The weights are
    ``softmax(w · tanh(W [state; decoder's state] + b))``. Details are from memory.

    It reads the image encoder's tokens before the projection, real ones first, and gradients reach
    the image encoder alone.

    Args:
        hidden: width of the states of both GRUs.
        word_dim: width of the word embeddings.
        dropout: share of the regions' and of the words' numbers that training sets to zero.
        min_count: words that occur less often are unknown.
        longest: words of a text at most, its end included.
    """

    def __init__(
        self,
        hidden: Size = 512,
        word_dim: Size = 300,
        dropout: Share = 0.2,
        min_count: Size = 1,
        longest: Size = 60,
    ) -> None:
        super().__init__()
        self.hidden, self.word_dim = hidden, word_dim
        self.min_count, self.longest = min_count, longest
        self.vocabulary: CaptionVocabulary | None = None
        self.dropout = nn.Dropout(dropout)

    @override
    def build(self, widths: Widths) -> None:
        self.regions = nn.Linear(widths.encoded_images, self.hidden)
        self.encoder = nn.GRU(self.hidden, self.hidden, batch_first=True)
        self.attention = AdditiveAttention(self.hidden)
        self.decoder = nn.GRUCell(self.word_dim + self.hidden, self.hidden)

    @override
    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        if self.vocabulary is None:
            self._set_vocabulary(CaptionVocabulary.learn(texts, self.min_count, self.longest))

    @override
    def extra_state(self) -> ExtraState:
        """The words, in the order of their embeddings."""
        return {} if self.vocabulary is None else {"words": self.vocabulary.words}

    @override
    def load_extra_state(self, state: ExtraState) -> None:
        if state != self.extra_state():
            self._set_vocabulary(CaptionVocabulary(state["words"], self.longest))

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        """This process's share.

        Raises:
            InputError: the image encoder gives no tokens, or ``gradient_cache`` keeps them away.
        """
        encoded = comparison.encoded.encoded_images
        if encoded is None or encoded.tokens is None:
            raise InputError(
                "CaptionLoss reads the regions of images: use it with an image encoder that gives "
                "tokens, and without model.gradient_cache"
            )
        assert self.vocabulary is not None  # of setup("fit"), or of the checkpoint
        texts = comparison.raw_texts
        ids, mask = (each.to(encoded.device) for each in self.vocabulary.encode(texts))
        logits = self.word_logits(encoded, ids)
        losses = F.cross_entropy(logits.mT, ids, reduction="none")
        return (losses * mask).sum() / comparison.pairs

    def word_logits(self, images: Features, ids: Tensor) -> Tensor:
        """Logits ``(B, L, V)`` of each word, given the image and the words before it.

        Args:
            images: with tokens ``(B, R, D)``, the real ones first.
            ids: the texts' words ``(B, L)`` int64.
        """
        assert images.tokens is not None
        assert images.mask is not None
        # filled and not multiplied: padding may hold anything, even NaN
        regions = images.tokens.masked_fill(~images.mask.unsqueeze(-1), 0)
        states, _ = self.encoder(self.dropout(self.regions(regions)))
        state = states[torch.arange(len(ids)), images.mask.sum(dim=1) - 1]  # at the last region
        before = F.pad(ids[:, :-1], (1, 0), value=START)
        words = self.dropout(self.embedding(before))
        keys = self.attention.of_states(states)
        logits = []
        for word in words.unbind(dim=1):
            weights = self.attention(keys, state, images.mask)
            context = (weights.unsqueeze(-1) * states).sum(dim=1)
            state = self.decoder(torch.cat([word, context], dim=1), state)
            logits.append(self.output(state))
        return torch.stack(logits, dim=1)

    def _set_vocabulary(self, vocabulary: CaptionVocabulary) -> None:
        self.vocabulary = vocabulary
        device = self.decoder.weight_ih.device
        self.embedding = nn.Embedding(len(vocabulary), self.word_dim, PADDING, device=device)
        self.output = nn.Linear(self.hidden, len(vocabulary), device=device)


class AdditiveAttention(nn.Module):
    """``softmax(w · tanh(W [state; query] + b))`` over states (Bahdanau et al., ICLR 2015).

    Args:
        dim: width of states and query.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.of_states = nn.Linear(dim, dim)
        self.of_query = nn.Linear(dim, dim, bias=False)
        self.scorer = nn.Linear(dim, 1, bias=False)

    def forward(self, keys: Tensor, query: Tensor, mask: Tensor) -> Tensor:
        """Weights ``(B, R)``, 0 at padding.

        Args:
            keys: ``of_states(states)``, ``(B, R, D)``, computed once for many queries.
            query: ``(B, D)``.
            mask: ``(B, R)`` bool.
        """
        scores = self.scorer((keys + self.of_query(query).unsqueeze(1)).tanh()).squeeze(-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1)
