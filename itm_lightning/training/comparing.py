"""From the features of a batch to what an objective reads."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.distributed import Processes
from itm_lightning.objectives.comparison import Comparison, LocalComparison
from itm_lightning.objectives.distributed_comparison import DistributedComparison
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features


def compare(
    similarity: Similarity,
    images: Features,
    texts: Features,
    image_ids: Tensor,
    text_image_ids: Tensor,
    processes: Processes,
) -> Comparison:
    """Photos and captions as the head compares them, with everybody else's.

    Args:
        similarity: the head.
        images: ``b`` photos of this process, in the common space.
        texts: their captions, one a photo.
        image_ids: ``(b,)`` int64, the id of each photo.
        text_image_ids: ``(b,)`` int64, the id of each caption's photo.
        processes: those whose batches make one.
    """
    lifted = similarity.to_head_space(images, texts)
    ids = image_ids, text_image_ids
    if processes.size == 1:
        return LocalComparison(similarity(images, texts), *lifted, *ids)
    prepared_images, prepared_texts = (
        similarity.prepare_images(images),
        similarity.prepare_texts(texts),
    )
    return DistributedComparison(
        similarity.score, prepared_images, prepared_texts, *lifted, *ids, processes
    )
