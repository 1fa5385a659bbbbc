"""What a function makes of every image's or every text's scores, without the score matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.ranking.block_scorer import BlockScorer
from itm_lightning.ranking.blocks import block_sizes
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures


@torch.no_grad()
def reduce_scores(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    of: Literal["images", "texts"],
    reduce: Callable[[Tensor], Tensor],
    width: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Reduces each image's scores with all texts, or each text's scores with all images.

    Other arguments and errors as of :func:`itm_lightning.ranking.rank`.

    Args:
        of: the side that keeps its rows.
        reduce: ``(n, m)`` scores to ``(n, width)``, for any ``m ≥ width``; of its own results
            together with further scores it must make what it makes of all scores.
        width: how many numbers it makes.

    Returns:
        ``(N, width)``, on every process.
    """
    images, texts = as_sharded(images), as_sharded(texts)
    sizes = block_sizes(similarity, images, texts, block_elements)
    no_positives = [0] * (-(-len(images) // sizes.images) + 1)
    scorer = BlockScorer(similarity, images, texts, sizes, no_positives, progress)
    n_rows = len(images if of == "images" else texts)
    # reduced from the start, so that they have the dtype of what comes later
    state = reduce(torch.full((n_rows, width), -torch.inf, device=scorer.device))
    for block in scorer.negative_blocks():
        rows = block.images if of == "images" else block.texts
        scores = block.scores if of == "images" else block.scores.mT
        state[rows] = reduce(torch.cat([state[rows], scores], dim=1))

    processes = scorer.processes
    if of == "images":  # each belongs to one process, which scored it with all texts
        shares = scorer.images_of_process
        own = state.split(shares)[processes.rank]
    else:  # each process reduces what all of them made of a share of the texts
        shares = [len(rows) for rows in state[:, 0].tensor_split(processes.size)]
        n_own = shares[processes.rank]
        found = processes.all_to_all(state, shares, [n_own] * processes.size)
        own = reduce(found.view(processes.size, n_own, width).transpose(0, 1).flatten(1))
    return processes.all_gather(own, shares).to(scorer.result_device)
