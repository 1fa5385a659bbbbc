"""SCNLM: the language model of Kiros et al., which writes a caption from an embedding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, NotNegative, Share, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.caption_vocabulary import END, START, CaptionVocabulary, split_caption
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.word_tags import END_TAG, PADDING_TAG, TAGS, tag_numbers
from itm_lightning.part import ExtraState
from itm_lightning.registry import register
from itm_lightning.types import Features, Widths, unit

NextWord = Callable[[Tensor], Tensor]
"""From the words so far ``(N, W, n)`` int64 to log probabilities ``(N, W, V)`` of the next one."""


@register("objective")
class SCNLM(FeatureObjective):
    """``-log P(text | its embedding, its structure)``, summed over words, the mean over texts.

    The structure–content neural language model of Kiros, Salakhutdinov and Zemel (2014,
    arXiv 1411.2539), after the paper: it was never released. With the embedding ``u``
    (the content), the tags ``t_n … t_{n+k}`` of the word to predict and of the ``k`` that follow
    (the structure), and the ``c`` words before it:

    - ``û = ReLU(T_u u + Σ_j T_j t_{n+j} + b)``
    - ``r̂ = Σ_i C_i r(w_{n-i})``, where ``r(w)`` is column ``w`` of ``W_fkᵀ W_fv``
    - ``logits = W_fvᵀ ((W_fk r̂) ⊙ (W_fd û + b_f)) + b_v``

    The factored log-bilinear base is that of the authors' multimodal language models (ICML 2014).
    ``u`` is the text's projected embedding, of length 1: it trains the model, and the ranking loss
    beside it alone trains the encoders. A caption is written with the *image's* embedding in its
    place, see :mod:`itm_lightning.captioning`; ``noise`` and ``image_share`` are ours, and accustom
    the model to the difference. So is ``trains_encoders``: what tells images apart need not lie in
    an embedding so that a model that is linear in its context can name it, and with this gradient
    it does. Tags are those of :mod:`~itm_lightning.objectives.word_tags`.

    Args:
        word_dim: width of the word vectors ``r``.
        hidden: width of ``û``.
        factors: width of the product.
        context: ``c``.
        lookahead: ``k``.
        dropout: share of the numbers of ``û`` that training sets to zero.
        noise: length of a random vector that training adds to ``u``.
        image_share: share of the pairs that training conditions on the image's embedding.
        trains_encoders: give the embeddings a gradient.
        min_count: words that occur less often are unknown.
        longest: words of a text at most, its end included.
        structures: how many of the train split's structures are kept, the most frequent first.
    """

    def __init__(
        self,
        word_dim: Size = 100,
        hidden: Size = 441,
        factors: Size = 128,
        context: Size = 5,
        lookahead: Size = 3,
        dropout: Share = 0.15,
        noise: NotNegative = 0.0,
        image_share: Share = 0.0,
        trains_encoders: bool = False,
        min_count: Size = 1,
        longest: Size = 60,
        structures: Size = 10_000,
    ) -> None:
        super().__init__()
        self.word_dim, self.hidden, self.factors = word_dim, hidden, factors
        self.context, self.lookahead = context, lookahead
        self.noise, self.image_share, self.trains_encoders = noise, image_share, trains_encoders
        self.min_count, self.longest, self.most_structures = min_count, longest, structures
        self.vocabulary: CaptionVocabulary | None = None
        self.structures: dict[str, int] = {}
        self.dropout = nn.Dropout(dropout)

    @override
    def build(self, widths: Widths) -> None:
        """Makes all weights but those of words.

        Raises:
            InputError: images and texts have embeddings of two widths.
        """
        if widths.images != widths.texts:
            raise InputError(
                f"SCNLM reads images in place of texts, but images have {widths.images} numbers "
                f"and texts {widths.texts}: give model.image_projection and model.text_projection "
                "one dim"
            )
        self.of_tags = nn.Embedding((self.lookahead + 1) * len(TAGS), self.hidden)
        self.of_context = nn.Conv1d(self.word_dim, self.word_dim, self.context, bias=False)
        self.of_words = nn.Linear(self.word_dim, self.factors, bias=False)
        self.gates = nn.Linear(self.hidden, self.factors)
        self.of_content = nn.Linear(widths.texts, self.hidden)
        # Numbers of about 1 in û, and in the product: u is of length 1, its numbers are small; and
        # W_fk is applied twice, to the word vectors and to the context.
        nn.init.normal_(self.of_content.weight)
        nn.init.normal_(self.of_tags.weight, std=(self.lookahead + 1) ** -0.5)
        nn.init.normal_(self.of_words.weight, std=self.word_dim**-0.25)

    @override
    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        if self.vocabulary is not None:
            return
        texts = list(texts)
        self._set_vocabulary(CaptionVocabulary.learn(texts, self.min_count, self.longest))
        found = Counter(" ".join(map(str, self._tags(text))) for text in texts)
        self.structures = dict(found.most_common(self.most_structures))

    @override
    def extra_state(self) -> ExtraState:
        """The words, in the order of their vectors, and how often each structure occurred."""
        if self.vocabulary is None:
            return {}
        return {"words": self.vocabulary.words, "structures": self.structures}

    @override
    def load_extra_state(self, state: ExtraState) -> None:
        if state != self.extra_state():
            self._set_vocabulary(CaptionVocabulary(state["words"], self.longest))
            self.structures = state["structures"]

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        assert self.vocabulary is not None  # of setup("fit"), or of the checkpoint
        content = self.content(comparison.texts)
        if self.training:
            of_images = torch.rand(len(content), 1, device=content.device) < self.image_share
            content = torch.where(of_images, self.content(comparison.images), content)
            content = unit(content + self.noise * unit(torch.randn_like(content)))
        texts = comparison.raw_texts
        ids, mask = (each.to(content.device) for each in self.vocabulary.encode(texts))
        tags = _padded([self._tags(text) for text in texts]).to(content.device)
        losses = F.cross_entropy(self.word_logits(content, ids, tags).mT, ids, reduction="none")
        return (losses * mask).sum() / comparison.pairs

    def content(self, side: Features) -> Tensor:
        """The embeddings ``u (B, D)`` of projected images or texts, of length 1.

        Raises:
            InputError: the head reads no pooled vectors.
        """
        if side.pooled is None:
            raise InputError("SCNLM reads pooled vectors: use it with a head that does, as Cosine")
        return unit(side.pooled if self.trains_encoders else side.pooled.detach())

    def word_logits(self, content: Tensor, ids: Tensor, tags: Tensor) -> Tensor:
        """Logits ``(B, L, V)`` of each word, given embedding, structure and the words before it.

        Args:
            content: the embeddings ``u (B, D)``.
            ids: the texts' words ``(B, L)`` int64.
            tags: their tags ``(B, L)`` int64, see :data:`~itm_lightning.objectives.word_tags.TAGS`.
        """
        before = F.pad(ids[:, :-1], (self.context, 0), value=START)
        words = self.words.weight @ self.of_words.weight  # every r(w), (V, K)
        context = self.of_context(words[before].mT).mT
        return self._logits(context, self._gates(content, tags))

    def next_word(self, content: Tensor, tags: Tensor) -> NextWord:
        """What writes ``N`` captions, word by word, from embeddings and structures.

        Padding, the unknown word and the start of a caption are never written.

        Args:
            content: ``u (N, D)``.
            tags: ``(N, L)`` int64.
        """
        gates = self._gates(content, tags)
        words = self.words.weight @ self.of_words.weight

        def log_probs(written: Tensor) -> Tensor:
            rows, beams, length = written.shape
            before = F.pad(written, (self.context, 0), value=START)[..., -self.context :]
            context = self.of_context(words[before.flatten(0, 1)].mT).squeeze(-1)
            gate = gates[:, length].unsqueeze(1)
            logits = self._logits(context.unflatten(0, (rows, beams)), gate)
            logits[..., :END] = -torch.inf
            return logits.log_softmax(dim=-1)

        return log_probs

    def draw_structures(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` structures ``(count, L)`` int64 of training captions, as often as they occur.

        Each is drawn once at most; there may be fewer than ``count``.
        """
        weights = torch.tensor([*self.structures.values()], dtype=torch.float64)
        drawn = weights.multinomial(min(count, len(weights)), generator=generator).tolist()
        rows = [*self.structures]
        return _padded([[int(tag) for tag in rows[number].split()] for number in drawn])

    def _tags(self, text: str) -> list[int]:
        return [*tag_numbers(split_caption(text)[: self.longest - 1]), END_TAG]

    def _gates(self, content: Tensor, tags: Tensor) -> Tensor:
        """``W_fd û``, ``(B, L, F)``."""
        following = F.pad(tags, (0, self.lookahead), value=PADDING_TAG)
        offsets = torch.arange(self.lookahead + 1, device=tags.device) * len(TAGS)  # of T_0, T_1, …
        structure = self.of_tags(following.unfold(1, len(offsets), 1) + offsets).sum(dim=2)
        hidden = (self.of_content(content).unsqueeze(1) + structure).relu()
        return self.gates(self.dropout(hidden))

    def _logits(self, context: Tensor, gates: Tensor) -> Tensor:
        return F.linear(self.of_words(context) * gates, self.words.weight, self.bias)

    def _set_vocabulary(self, vocabulary: CaptionVocabulary) -> None:
        self.vocabulary = vocabulary
        device = self.gates.weight.device
        self.words = nn.Embedding(len(vocabulary), self.factors, device=device)
        nn.init.normal_(self.words.weight, std=self.factors**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary), device=device))


def _padded(rows: list[list[int]]) -> Tensor:
    """Rows of tags as one tensor ``(N, L)`` int64."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PADDING_TAG] * (longest - len(row)) for row in rows])
