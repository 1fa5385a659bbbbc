"""FashionBERTLoss: matching, masked words and masked patches, weighted by how large they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, Share, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.registry import register
from itm_lightning.similarity import FashionBERT
from itm_lightning.types import Features, Widths, at_least_float32, full_precision

_DEVIATION = 0.02  # of BERT's initial weights
_MOST_WORDS = 10  # that are masked in a text
_NO_WORD = -1


@register("objective")
class FashionBERTLoss(FeatureObjective):
    """FashionBERT's three losses, with its adaptive weights (:func:`adaptive_weights`).

    Gao et al., SIGIR 2020, sections 3.2 and 3.3, and the authors' code in EasyTransfer. Of each
    pair, and of as many that do not match, words and patches are masked; from BERT's last states

    - **matching**: cross entropy of whether the pair matches;
    - **masked words**: cross entropy of the masked words' pieces; all pieces of a word are masked
      together, by a learnt vector (BERT's own rule keeps or replaces one in five);
    - **masked patches**: ``KL(softmax(v) ‖ softmax(W h))``, where ``v`` is the masked patch as the
      image encoder gives it, and zeros stand in its place.

    A pair that does not match is an image with the text of another image of this process's batch,
    drawn at random; of one that shares a class with it where the source has classes and there is
    such a one. Both masked losses are those of matching pairs and of others, as in the code.

    Args:
        vocabulary: how many ids the text encoder's pieces have; 30,522 those of
            ``bert-base-uncased``.
        words: share of a text's words that are masked, at most 10 and at least one.
        patches: share of an image's patches that are masked, at least one.

    Raises:
        InputError: ``vocabulary`` is below 1, or a share is not between 0 and 1.
    """

    def __init__(
        self, vocabulary: Size = 30522, words: Share = 0.15, patches: Share = 5 / 64
    ) -> None:
        super().__init__()
        if not 0 < words < 1 or not 0 < patches < 1:
            raise InputError(
                f"FashionBERTLoss: words {words} and patches {patches}; give shares between 0 and 1"
            )
        self.vocabulary, self.words, self.patches = vocabulary, words, patches

    @override
    def build(self, widths: Widths) -> None:
        width = widths.texts
        self.mask_token = nn.Parameter(_DEVIATION * torch.randn(width))
        self.word_logits = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), _linear(width, self.vocabulary)
        )
        self.patch_logits = _linear(width, widths.encoded_images)

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        sums, counts = self.sums(comparison)
        shares = torch.stack(sums) / comparison.total(torch.stack(counts)).clamp(min=1)
        # of the whole batch, and without gradient: see adaptive_weights
        return (adaptive_weights(comparison.total(shares.detach())) * shares).sum()

    def sums(self, comparison: Comparison) -> tuple[list[Tensor], list[Tensor]]:
        """Matching, masked words and masked patches, summed over this process's rows; how many."""
        head = comparison.similarity
        if not isinstance(head, FashionBERT):
            raise InputError(
                f"FashionBERTLoss trains the head FashionBERT, and the head is "
                f"{type(head).__name__}: set model.similarity to FashionBERT"
            )
        images, texts = comparison.images, comparison.texts
        assert images.tokens is not None  # the head selects tokens
        assert images.mask is not None
        assert texts.tokens is not None
        assert texts.mask is not None
        length = texts.tokens.shape[1]  # these may be some rows of a batch of longer texts
        ids = _padded(self._ids(comparison), length, 0)
        word_of_piece = _padded(_words_of_pieces(comparison), length, _NO_WORD).to(ids.device)
        masked_words = self._masked_words(word_of_piece)
        masked_patches = some_of(images.mask, (self.patches * images.mask.sum(dim=1)).round())
        seen_words = torch.where(
            masked_words.unsqueeze(-1), self.mask_token.to(texts.tokens.dtype), texts.tokens
        )
        seen_patches = images.tokens.masked_fill(masked_patches.unsqueeze(-1), 0)

        rows = torch.arange(len(ids), device=ids.device)
        of_images, of_texts = _others(comparison)
        image_rows, text_rows = torch.cat([rows, of_images]), torch.cat([rows, of_texts])
        states = head.states(
            head.prepare_images(Features(seen_patches, images.mask, None)[image_rows]),
            head.prepare_texts(Features(seen_words, texts.mask, None)[text_rows]),
        )
        matches = torch.zeros(len(states), device=states.device)
        matches[: len(rows)] = 1
        matching = F.binary_cross_entropy_with_logits(
            head.log_odds(states), matches, reduction="sum"
        )
        words, patches = states[:, :length], states[:, length:]
        masked_words, masked_patches = masked_words[text_rows], masked_patches[image_rows]
        word_guesses = at_least_float32(self.word_logits(words[masked_words]))
        of_words = F.cross_entropy(word_guesses, ids[text_rows][masked_words], reduction="sum")
        patch_guesses = self.patch_logits(patches[masked_patches])
        of_patches = divergences(
            _encoded_patches(comparison)[image_rows][masked_patches], patch_guesses
        )
        counts = [
            torch.tensor(len(each), device=ids.device)
            for each in (matches, word_guesses, patch_guesses)
        ]
        return [matching, of_words, of_patches.sum()], counts

    def _ids(self, comparison: Comparison) -> Tensor:
        ids = comparison.token_ids[0]
        if ids.max() >= self.vocabulary:
            raise InputError(
                f"FashionBERTLoss(vocabulary={self.vocabulary}) met a word piece of id "
                f"{int(ids.max())}: set model.objective.vocabulary to more than that"
            )
        return ids.to(comparison.batch.image_ids.device)

    def _masked_words(self, word_of_piece: Tensor) -> Tensor:
        """``(b, L)`` bool, which pieces are masked."""
        n_words = word_of_piece.amax(dim=1) + 1
        numbers = torch.arange(int(n_words.max().clamp(min=1)), device=n_words.device)
        count = (self.words * n_words).round().clamp(min=1, max=_MOST_WORDS)
        chosen = some_of(numbers < n_words[:, None], count)
        return chosen.gather(1, word_of_piece.clamp(min=0)) & (word_of_piece != _NO_WORD)


def adaptive_weights(losses: Tensor, alpha: float = 1.0) -> Tensor:
    """FashionBERT's weights ``(K,)`` of ``losses (K,)``: the larger a loss, the larger its weight.

    ``wᵢ = (αK - gᵢ)⁻¹ / Σⱼ (αK - gⱼ)⁻¹`` with ``g = softmax(losses)²``, as the authors' code has
    it; with three losses and α = 1 each weight lies between .286 and .429. The code lets the
    gradient flow through the weights. Here it does not: the model could otherwise lower the sum by
    moving weight from one loss to another, and the sum over processes would not be that of one.
    """
    losses = losses.detach()
    inverse = 1 / (alpha * len(losses) - losses.softmax(dim=0).square())
    return inverse / inverse.sum()


def divergences(targets: Tensor, logits: Tensor) -> Tensor:
    """``KL(softmax(target) ‖ softmax(logits))`` of each row ``(n,)`` of two ``(n, D)``."""
    with full_precision(logits):
        target, found = at_least_float32(targets.detach()), at_least_float32(logits)
        log_target = target.log_softmax(dim=-1)
        return (log_target.exp() * (log_target - found.log_softmax(dim=-1))).sum(dim=-1)


def some_of(mask: Tensor, count: Tensor) -> Tensor:
    """``(B, L)`` bool: of each row's places of the mask ``count (B,)``, one at least, at random."""
    draws = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0)
    place = draws.argsort(dim=1).argsort(dim=1)
    return (place < count.clamp(min=1)[:, None]) & mask


def _words_of_pieces(comparison: Comparison) -> Tensor:
    """``(b, L)`` int64: the number of the word that each piece belongs to; -1 for marks."""
    rows = []
    for tokens in comparison.words:
        word, row = _NO_WORD, []
        for token in tokens:
            word += not token.special and not token.text.startswith("##")
            row.append(_NO_WORD if token.special else word)
        rows.append(torch.tensor(row))
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_NO_WORD)


def _padded(rows: Tensor, length: int, value: int) -> Tensor:
    return F.pad(rows, (0, length - rows.shape[1]), value=value)


def _others(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """Rows of images, and of texts that do not belong to them; ``(b,)`` or fewer of each."""
    batch = comparison.batch
    wrong = batch.image_ids[:, None] != batch.text_image_ids
    labels = batch.labels.float()
    alike = wrong & (labels @ labels.mT > 0)
    candidates = torch.where(alike.any(dim=1, keepdim=True), alike, wrong)
    rows = candidates.any(dim=1).nonzero().flatten()
    return rows, candidates[rows].float().multinomial(1).flatten() if len(rows) else rows


def _encoded_patches(comparison: Comparison) -> Tensor:
    encoded = comparison.encoded.encoded_images
    if encoded is None or encoded.tokens is None:
        raise InputError(
            "FashionBERTLoss reads the patches as the image encoder gives them: use an encoder of "
            "tokens, and leave model.gradient_cache out"
        )
    return encoded.tokens


def _linear(in_dim: int, out_dim: int) -> nn.Linear:
    linear = nn.Linear(in_dim, out_dim)
    nn.init.normal_(linear.weight, std=_DEVIATION)
    nn.init.zeros_(linear.bias)
    return linear
