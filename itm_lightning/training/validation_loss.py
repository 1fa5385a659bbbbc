"""The objective on the validation split, beside the retrieval scores."""

from __future__ import annotations

import torch
from torch import Tensor

from itm_lightning.distributed import Processes
from itm_lightning.objectives.base import Objective
from itm_lightning.objectives.comparison import LocalComparison
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Batch, EncodedBatch, Features


class ValidationLoss:
    """The mean over a split's images of the objective on its evaluation batches.

    Each batch of images, each image with its first text, is compared within itself, by the process
    that has encoded it. As in training, a loss depends on how many pairs are compared: on
    ``data.batch_size``, and a little on the number of processes, which share the images out.
    """

    def __init__(self) -> None:
        self._sum, self._pairs = torch.zeros((), dtype=torch.float64), 0

    def update(self, objective: Objective, similarity: Similarity, encoded: EncodedBatch) -> None:
        """Takes a batch of images with all of their texts; a batch of one pair tells nothing."""
        pairs = first_texts(encoded)
        n_pairs = len(pairs.images)
        if n_pairs > 1:
            loss = objective.loss(LocalComparison(similarity, pairs))
            self._sum = self._sum.to(loss.device) + n_pairs * loss.detach()
            self._pairs += n_pairs

    def compute(self, processes: Processes) -> float | None:
        """The mean over all processes, and a new beginning; a collective.

        Returns:
            ``None`` where there was no batch.
        """
        sums = processes.sum(torch.stack([self._sum, self._sum.new_tensor(self._pairs)]))
        self.__init__()  # type: ignore[misc]
        loss, pairs = sums.tolist()
        return loss / pairs if pairs else None


def first_texts(encoded: EncodedBatch) -> EncodedBatch:
    """The pairs of each image that has texts and its first text.

    Args:
        encoded: of a batch in which each image has all of its texts, those of the first image
            first.
    """
    batch = encoded.batch
    owners = batch.text_image_ids
    first = torch.ones_like(owners, dtype=torch.bool)
    first[1:] = owners[1:] != owners[:-1]
    texts = first.nonzero().flatten()
    images = torch.isin(batch.image_ids, owners).nonzero().flatten()
    return EncodedBatch(
        Batch(
            batch.images[images],
            _rows_of(batch.texts, texts),
            batch.image_ids[images],
            owners[texts],
            batch.text_ids[texts],
            batch.labels[images],
        ),
        encoded.images[images],
        encoded.texts[texts],
        None if encoded.encoded_images is None else encoded.encoded_images[images],
        None if encoded.encoded_texts is None else encoded.encoded_texts[texts],
        encoded.token_ids,
        encoded.words,
    )


def _rows_of(texts: list[str] | Features, rows: Tensor) -> list[str] | Features:
    return texts[rows] if isinstance(texts, Features) else [texts[row] for row in rows.tolist()]
