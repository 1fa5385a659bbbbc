"""Noise on the words of texts, against overfitting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MASKED, REPLACED = 0.5, 0.1
"""The shares of the chosen words that are masked and replaced; the others are deleted."""


@dataclass(frozen=True)
class Substitutes:
    """The ids that replace words.

    Attributes:
        mask: id of the mask token, or of the unknown word.
        words: ``(V,)`` int64, from which a replacement is drawn.
        padding: id of the padding.
    """

    mask: int
    words: Tensor
    padding: int


def noisy(
    ids: Tensor, mask: Tensor, words: Tensor, share: float, substitutes: Substitutes
) -> tuple[Tensor, Tensor]:
    """Masks, replaces and deletes words at random; at least one word of each text stays.

    Follows VSE∞ (Chen et al., CVPR 2021), which follows BERT: of the chosen words, half become the
    mask, a tenth become another word, and the rest are deleted. The shares are those of the
    authors' code, which treats all pieces of a word alike.

    Args:
        ids: token ids ``(B, L)`` int64.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        words: ``(B, L)`` int64, the number of the word that a token is a piece of; negative at
            tokens that belong to no word (start, end), which stay unchanged.
        share: probability that a word is chosen.
        substitutes: the ids that replace words.

    Returns:
        Ids ``(B, L')`` and mask ``(B, L')``, without the deleted words.
    """
    is_word = (words >= 0) & mask
    # one draw a word, for all of its pieces
    draws = torch.rand(len(ids), max(1, int(words.max()) + 1)).to(ids.device)
    draws = draws.gather(1, words.clamp(min=0))
    draws = draws.masked_fill(~is_word, 1.0)
    below_masked, below_replaced = MASKED * share, (MASKED + REPLACED) * share
    masked = is_word & (draws < below_masked)
    replaced = is_word & ~masked & (draws < below_replaced)
    deleted = is_word & ~masked & ~replaced & (draws < share)
    deleted &= (is_word & ~deleted).any(1, keepdim=True) | _all_but_one(draws, is_word)

    others = torch.randint(len(substitutes.words), ids.shape, device=ids.device)
    ids = ids.masked_fill(masked, substitutes.mask)
    ids = torch.where(replaced, substitutes.words.to(ids.device)[others], ids)
    return _close_up(ids, mask & ~deleted, substitutes.padding)


def _all_but_one(draws: Tensor, is_word: Tensor) -> Tensor:
    """Every word but the one with the highest draw of each text, ``(B, L)`` bool."""
    draws = draws.masked_fill(~is_word, -1.0)
    return draws < draws.amax(dim=1, keepdim=True)


def _close_up(ids: Tensor, stays: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Moves the ids that stay to the left, in their order, and pads; returns ids and mask."""
    order = stays.int().argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(stays.sum(dim=1).max())]
    stays = stays.gather(1, order)
    return ids.gather(1, order).masked_fill(~stays, padding), stays
