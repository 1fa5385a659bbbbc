"""Ranks as counts of what scores at least as high as the correct answer."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.distributed import Processes
from itm_lightning.ranking.sweep import Block


class Counts:
    """What the ranks are counted from, of photos and captions sorted by photo.

    Args:
        owner: ``(M,)`` int64, the row of each caption's photo.
        n_photos: how many there are.
    """

    def __init__(self, owner: Tensor, n_photos: int) -> None:
        self._owner = owner
        self._best = torch.full((n_photos,), -torch.inf, device=owner.device)
        self._own = torch.zeros(len(owner), device=owner.device)
        self._i2t, self._t2i = owner.new_zeros(n_photos), torch.zeros_like(owner)

    def positives(self, block: Block) -> None:
        """Photos with all their captions, and no others."""
        rows, columns = block.photos, block.captions
        found = positives(block.scores, self._owner[columns] - rows.start)
        self._best[rows], self._own[columns], self._i2t[rows], self._t2i[columns] = found

    def share_positives(self, processes: Processes) -> None:
        """Tells everybody every caption's score with its photo; a collective."""
        self._own = processes.sum(self._own)  # to which all but one add zero

    def negatives(self, block: Block) -> None:
        """Photos with captions of others."""
        rows, columns, scores = block.photos, block.captions, block.scores
        self._i2t[rows] += (scores >= self._best[rows, None]).sum(dim=1)
        self._t2i[columns] += (scores >= self._own[columns]).sum(dim=0)

    def ranks(self, processes: Processes) -> tuple[Tensor, Tensor]:
        """``i2t (N,)`` and ``t2i (M,)``, once all blocks were seen; a collective."""
        return processes.sum(self._i2t), processes.sum(self._t2i)


def positives(scores: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a matrix in which every photo meets all its captions, and every caption its photo.

    Returns:
        ``best (n,)``, the best score of each photo's captions; ``own (m,)``, each caption's score
        with its photo; and the ranks ``i2t (n,)`` and ``t2i (m,)`` within this matrix.
    """
    mine = owner[None, :] == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~mine, -torch.inf).amax(dim=1)
    own = scores.gather(0, owner[None, :])[0]
    i2t = ((scores >= best[:, None]) & ~mine).sum(dim=1) + 1
    t2i = (scores >= own).sum(dim=0)  # its photo is one of them, so the first has rank 1
    return best, own, i2t, t2i
