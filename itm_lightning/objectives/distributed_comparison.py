"""A batch that several processes share, each of which scores its own rows and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.distributed import Processes
from itm_lightning.distributed.collectives import (
    all_gather_rows,
    all_to_all,
    pad_to_max,
    round_the_ring,
)
from itm_lightning.objectives.comparison import Block, Comparison, Queries
from itm_lightning.types import Features, Rows, RowsT, at_least_float32
from itm_lightning.utils.checkpointing import recompute

Score = Callable[[Any, Any], Tensor]


class DistributedComparison(Comparison):
    """The comparison of one of several processes.

    A caption is encoded and prepared by its own process, and scored once with each photo, by the
    photo's: captions go to all processes, and blocks of scores to those of their captions. Both
    ways gradients come back. No process ever holds more than its ``(b, B)`` scores.

    Args:
        score: from prepared photos and captions to scores ``(n_images, n_texts)``.
        prepared_images: this process's ``b`` photos, prepared.
        prepared_texts: their captions, prepared; padding with zeros must mean nothing to ``score``.
        images: the photos, where the head lifts them.
        texts: the captions, likewise.
        image_ids: ``(b,)`` int64, the id of each photo.
        text_image_ids: ``(b,)`` int64, the id of each caption's photo.
        processes: who shares the batch; ``b`` may differ between them.
    """

    def __init__(
        self,
        score: Score,
        prepared_images: Rows,
        prepared_texts: Rows,
        images: Features,
        texts: Features,
        image_ids: Tensor,
        text_image_ids: Tensor,
        processes: Processes,
    ) -> None:
        self._score, self._prepared_images, self._processes = score, prepared_images, processes
        self._images, self._texts = images, texts
        self._prepared_texts, self._counts = pad_to_max(prepared_texts, processes)
        ids = processes.gather(torch.stack([image_ids, text_image_ids], dim=1))
        assert ids is not None  # only where nobody has pairs
        self._image_ids, self._text_image_ids = ids.unbind(dim=1)
        rows = torch.arange(self.pairs, device=ids.device)
        self._rows = [*rows.split(self._counts)]  # of each process

    @property
    @override
    def pairs(self) -> int:
        return sum(self._counts)

    @property
    @override
    def images(self) -> Features:
        return self._images

    @property
    @override
    def texts(self) -> Features:
        return self._texts

    @cached_property
    @override
    def image_queries(self) -> Queries:
        texts = all_gather_rows(self._prepared_texts, self._counts, self._processes)
        scores = at_least_float32(self._score(self._prepared_images, texts))
        negatives = self._image_ids[self._mine][:, None] != self._text_image_ids
        return Queries(scores, self._mine, negatives)

    @cached_property
    @override
    def text_queries(self) -> Queries:
        negatives = self._text_image_ids[self._mine][:, None] != self._image_ids
        return Queries(self._columns(), self._mine, negatives)

    @override
    def sum_over_blocks(self, loss: Callable[[Block], Tensor]) -> Tensor:
        def loss_of(texts: Rows, owner: int) -> Tensor:
            scores = at_least_float32(self._score(self._prepared_images, texts))
            return loss(self._block(scores, owner))

        ring = round_the_ring(self._prepared_texts, self._counts, self._processes)
        terms = [recompute(loss_of, texts, owner, anchor=self._image_ids) for owner, texts in ring]
        return torch.stack(terms).sum()

    @override
    def gather(self, rows: RowsT) -> RowsT:
        padded, counts = pad_to_max(rows, self._processes)
        return all_gather_rows(padded, counts, self._processes)

    @override
    def total(self, share: Tensor) -> Tensor:
        return self._processes.sum(share.detach())

    @property
    def _mine(self) -> Tensor:
        return self._rows[self._processes.rank]

    def _columns(self) -> Tensor:
        """``(b, B)``: the columns of this process's captions, which their photos' owners have."""
        sizes = [len(self._mine) * count for count in self._counts]
        by_text = self.image_queries.scores.mT.flatten()
        blocks = all_to_all(by_text, sizes, sizes, self._processes).split(sizes)
        return torch.cat([block.view(len(self._mine), -1) for block in blocks], dim=1)

    def _block(self, scores: Tensor, owner: int) -> Block:
        """Of this process's photos by the captions of the owner."""
        rows, columns = self._mine, self._rows[owner]
        negatives = self._image_ids[rows][:, None] != self._text_image_ids[columns]
        return Block(scores, rows[:, None] == columns, negatives)
