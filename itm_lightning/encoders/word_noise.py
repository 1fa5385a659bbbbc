"""Noise on the words of texts, against learning them by heart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.errors import InputError

MASKED, REPLACED = 0.5, 0.1
"""Which shares of the chosen words are masked and replaced; the others are deleted."""


@dataclass(frozen=True)
class Substitutes:
    """Ids that stand in a word's place.

    Attributes:
        mask: of the mask, or of the unknown word.
        words: ``(V,)`` int64, those a word is replaced by at random.
        padding: fills the rows up.
    """

    mask: int
    words: Tensor
    padding: int


def check_share(name: str, share: float) -> None:
    """Checks an encoder's ``word_noise``.

    Raises:
        InputError: it is no share.
    """
    if not 0 <= share <= 1:
        raise InputError(f"{name}: word_noise is {share}; give a share of the words, 0 to 1")


def noisy(
    ids: Tensor, mask: Tensor, words: Tensor, share: float, substitutes: Substitutes
) -> tuple[Tensor, Tensor]:
    """Masks, replaces and deletes words at random; at least one word of a text stays.

    As Chen et al. ("VSE∞", CVPR 2021) do, after BERT: of the words that are chosen, half become the
    mask, a tenth another word, and the rest is deleted (shares as in their code, where all pieces
    of a word share its fate).

    Args:
        ids: token ids ``(B, L)`` int64.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        words: ``(B, L)`` int64, which of the text's words a token is a piece of; negative where
            it is of none (start, end), and is left as it is.
        share: chance of each word to be chosen.
        substitutes: what stands in a word's place.

    Returns:
        Ids ``(B, L')`` and mask ``(B, L')``, closed up where words were deleted.
    """
    is_word = (words >= 0) & mask
    # a draw for each word, which its pieces share
    draws = torch.rand(len(ids), max(1, int(words.max()) + 1)).to(ids.device)
    draws = draws.gather(1, words.clamp(min=0))
    draws = draws.masked_fill(~is_word, 1.0)
    below_masked, below_replaced = MASKED * share, (MASKED + REPLACED) * share
    masked = is_word & (draws < below_masked)
    replaced = is_word & ~masked & (draws < below_replaced)
    deleted = is_word & ~masked & ~replaced & (draws < share)
    deleted &= (is_word & ~deleted).any(1, keepdim=True) | _but_the_last(draws, is_word)

    others = torch.randint(len(substitutes.words), ids.shape, device=ids.device)
    ids = ids.masked_fill(masked, substitutes.mask)
    ids = torch.where(replaced, substitutes.words.to(ids.device)[others], ids)
    return _close_up(ids, mask & ~deleted, substitutes.padding)


def _but_the_last(draws: Tensor, is_word: Tensor) -> Tensor:
    """Words but that of each text which was closest to stay."""
    draws = draws.masked_fill(~is_word, -1.0)
    return draws < draws.amax(dim=1, keepdim=True)


def _close_up(ids: Tensor, stays: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    order = stays.int().argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(stays.sum(dim=1).max())]
    stays = stays.gather(1, order)
    return ids.gather(1, order).masked_fill(~stays, padding), stays
