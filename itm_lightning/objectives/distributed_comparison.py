"""A batch that several processes share, each of which scores its own images only."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

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
from itm_lightning.objectives.comparison import Block, Comparison, GatheredT, Queries
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import EncodedBatch, Rows, Vectors, at_least_float32
from itm_lightning.utils.checkpointing import recompute


class DistributedComparison(Comparison):
    """The comparison of one of several processes.

    Each text is encoded and prepared by its own process, and scored once with each image, by the
    process that has the image: texts are sent to all processes, and blocks of scores to the
    processes that have their texts. Gradients are sent back in both cases. No process ever holds
    more than its ``(b, B)`` scores.

    Args:
        similarity: the head; padding prepared texts with zeros must not change its scores.
        encoded: this process's ``b`` pairs.
        processes: those that share the batch; ``b`` may differ between them.
    """

    def __init__(self, similarity: Similarity, encoded: EncodedBatch, processes: Processes) -> None:
        super().__init__(similarity, encoded)
        self._head, self._processes = similarity, processes
        own_ids = torch.stack([encoded.batch.image_ids, encoded.batch.text_image_ids], dim=1)
        padded, self._counts = pad_to_max(Vectors(own_ids), processes)
        ids = all_gather_rows(padded, self._counts, processes).vectors
        self._image_ids, self._text_image_ids = ids.unbind(dim=1)
        rows = torch.arange(self.pairs, device=ids.device)
        self._rows = [*rows.split(self._counts)]  # of each process

    @cached_property
    def _prepared_images(self) -> Rows:
        return self._head.prepare_images(self.images)

    @cached_property
    def _prepared_texts(self) -> Rows:
        return pad_to_max(self._head.prepare_texts(self.texts), self._processes)[0]

    @property
    @override
    def pairs(self) -> int:
        return sum(self._counts)

    @cached_property
    @override
    def image_queries(self) -> Queries:
        texts = all_gather_rows(self._prepared_texts, self._counts, self._processes)
        scores = at_least_float32(self._head.score(self._prepared_images, texts))
        negatives = self._image_ids[self._own_rows][:, None] != self._text_image_ids
        return Queries(scores, self._own_rows, negatives)

    @cached_property
    @override
    def text_queries(self) -> Queries:
        negatives = self._text_image_ids[self._own_rows][:, None] != self._image_ids
        return Queries(self._scores_of_own_texts(), self._own_rows, negatives)

    @override
    def sum_over_blocks(self, loss: Callable[[Block], Tensor]) -> Tensor:
        images = self._prepared_images  # here, as what follows is computed twice

        def loss_of(texts: Rows, owner: int) -> Tensor:
            scores = at_least_float32(self._head.score(images, texts))
            return loss(self._block(scores, owner))

        ring = round_the_ring(self._prepared_texts, self._counts, self._processes)
        terms = [recompute(loss_of, texts, owner, anchor=self._image_ids) for owner, texts in ring]
        return torch.stack(terms).sum()

    @override
    def gather(self, rows: GatheredT) -> GatheredT:
        if isinstance(rows, Tensor):
            return self.gather(Vectors(rows)).vectors  # type: ignore[return-value]
        padded, counts = pad_to_max(rows, self._processes)
        return all_gather_rows(padded, counts, self._processes)

    @override
    def total(self, share: Tensor) -> Tensor:
        return self._processes.sum(share.detach())

    @property
    def _own_rows(self) -> Tensor:
        return self._rows[self._processes.rank]

    def _scores_of_own_texts(self) -> Tensor:
        """``(b, B)``: the columns of this process's texts, which other processes have scored."""
        n_own = len(self._own_rows)
        sizes = [n_own * count for count in self._counts]
        by_text = self.image_queries.scores.mT.flatten()
        blocks = all_to_all(by_text, sizes, sizes, self._processes).split(sizes)
        return torch.cat([block.view(n_own, -1) for block in blocks], dim=1)

    def _block(self, scores: Tensor, owner: int) -> Block:
        """This process's images with the texts of the process ``owner``."""
        rows, columns = self._own_rows, self._rows[owner]
        negatives = self._image_ids[rows][:, None] != self._text_image_ids[columns]
        return Block(scores, rows[:, None] == columns, negatives)
