"""Whole rows of scores, some queries at a time: for what needs all of a query's scores at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.ranking.block_scorer import BlockScorer
from itm_lightning.ranking.blocks import BlockSizes, block_sizes, fewest_elements
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures
from itm_lightning.utils.progress_bars import progress_bar

_UNITS = 16  # of the images that ask at a time: so many processes get equal work
_SECONDS_UNTIL_BAR = 5


@torch.no_grad()
def reduce_rows(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    of: Literal["images", "texts"],
    reduce: Callable[[Tensor, Tensor], Tensor],
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Makes a few numbers of each image's scores with all texts, or each text's with all images.

    Unlike in :func:`itm_lightning.ranking.reduce_scores`, all of a query's scores come at once. So
    many queries are scored at a time as have, together, the scores of a block. Other arguments and
    errors as of :func:`itm_lightning.ranking.rank`.

    Args:
        of: the side that asks.
        reduce: from the rows ``(n,)`` int64 of queries and their scores ``(n, m)`` float32 with all
            of the other side, both where scores are made, to ``(n, width)``.

    Returns:
        ``(N, width)``, on every process.
    """
    images, texts = as_sharded(images), as_sharded(texts)
    elements = block_elements or fewest_elements(similarity, images)
    sizes = block_sizes(similarity, images, texts, elements)
    asking, answers = (images, texts) if of == "images" else (texts, images)
    queries = torch.arange(len(asking)).split(max(1, elements // max(1, len(answers))))
    bar = progress_bar(
        queries,
        desc=f"scores of {of}",
        disable=not progress or images.processes.rank != 0,
        delay=_SECONDS_UNTIL_BAR,
        leave=False,
    )
    reduced = []
    for rows in bar:
        if of == "images":
            units = BlockSizes(-(-len(rows) // _UNITS), sizes.texts)
            scores, scorer = _own_scores(similarity, images[rows], texts, units)
            counts = scorer.images_of_process
        else:
            scores, scorer = _own_scores(similarity, images, texts[rows], sizes)
            scores, counts = _by_text(scores, scorer)
        own = rows.split(counts)[images.processes.rank].to(scores.device)
        reduced.append(images.processes.all_gather(reduce(own, scores), counts))
    return torch.cat(reduced).to(images.device)


def _own_scores(
    similarity: Similarity, images: ShardedFeatures, texts: ShardedFeatures, sizes: BlockSizes
) -> tuple[Tensor, BlockScorer]:
    """``(n, M)``: scores of the images that this process scores, with all texts; a collective."""
    no_positives = [0] * (-(-len(images) // sizes.images) + 1)
    scorer = BlockScorer(similarity, images, texts, sizes, no_positives, progress=False)
    rank, images_of_process = scorer.processes.rank, scorer.images_of_process
    start = sum(images_of_process[:rank])
    scores = torch.empty(images_of_process[rank], len(texts), device=scorer.device)
    for block in scorer.negative_blocks():
        rows = slice(block.images.start - start, block.images.stop - start)
        scores[rows, block.texts] = block.scores
    return scores, scorer


def _by_text(scores: Tensor, scorer: BlockScorer) -> tuple[Tensor, list[int]]:
    """From the scores ``(n, m)`` of own images with texts to ``(own texts, N)``; a collective.

    Returns:
        The scores, and how many texts each process now has; they follow one another.
    """
    processes, images_of_process = scorer.processes, scorer.images_of_process
    shares = torch.arange(scores.shape[1]).tensor_split(processes.size)
    counts = [len(share) for share in shares]
    own, widest = counts[processes.rank], max(images_of_process)
    sent = scores.new_zeros(scores.shape[1], widest)
    sent[:, : len(scores)] = scores.mT
    arrived = processes.all_to_all(sent, counts, [own] * processes.size)
    parts = zip(arrived.view(processes.size, own, widest), images_of_process, strict=True)
    return torch.cat([part[:, :n] for part, n in parts], dim=1).to(scores.device), counts
