"""Scores of listed pairs, and ranks among the answers on a list instead of among all.

For heads that cost so much that not every pair can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.errors import InputError
from itm_lightning.ranking.blocks import (
    check_scores,
    pairs_at_once,
    ready,
    scoring_device,
    selected,
)
from itm_lightning.ranking.nearest import Neighbours, rank_and_top_k
from itm_lightning.ranking.ranks import Ranks, text_to_image_rows
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures
from itm_lightning.utils.progress_bars import progress_bar

_SECONDS_UNTIL_BAR = 5
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Stage:
    """A head, and what it reads of a gallery.

    Attributes:
        similarity: the head.
        images: of ``N`` images.
        texts: of ``M`` texts, sharded over the same processes.
    """

    similarity: Similarity
    images: AnyFeatures | ShardedFeatures
    texts: AnyFeatures | ShardedFeatures


@dataclass(frozen=True)
class Lists:
    """The answers of every query that are to be scored.

    Attributes:
        answers: ``(n_queries, depth)`` int64, rows of the other side.
        correct: ``(n_queries, depth)`` bool, whether each is a right answer.
        listed: ``(n_queries, depth)`` bool, whether each is on the list at all.
    """

    answers: Tensor
    correct: Tensor
    listed: Tensor

    def ranks(self, scores: Tensor) -> Tensor:
        """Of each query's best right answer on its list; 1 is first, ties count against the model.

        Args:
            scores: of all that is listed, query by query.
        """
        table = torch.full_like(self.answers, -torch.inf, dtype=torch.float32)
        table[self.listed] = scores
        best = table.masked_fill(~self.correct, -torch.inf).amax(dim=1, keepdim=True)
        return 1 + (self.listed & ~self.correct & (table >= best)).sum(dim=1)


@torch.no_grad()
def score_listed(
    stage: Stage,
    image_rows: Tensor,
    text_rows: Tensor,
) -> Tensor:
    """Scores ``(P,)`` float32 of listed pairs, by ``Similarity.score_pairs``; a collective.

    A pair that is listed several times is scored once. The blocks, which the processes take in
    turn, do not depend on how many of these there are: the scores are the same to the last bit.

    Args:
        stage: the head and its gallery.
        image_rows: ``(P,)`` int64, the same on every process.
        text_rows: ``(P,)`` int64, likewise.

    Raises:
        InputError: a score is not finite on any process; raised on all of them.
    """
    head = stage.similarity
    images, texts = (selected(head, as_sharded(side)) for side in (stage.images, stage.texts))
    processes, device = images.processes, scoring_device(head, images)
    # sorted by text: texts differ in length more than images do
    pairs, place = (text_rows.cpu() * len(images) + image_rows.cpu()).unique(return_inverse=True)
    blocks = [*pairs.split(pairs_at_once(head, images, texts))]
    blocks += [pairs[:0]] * (-len(blocks) % processes.size)  # each process has as many
    scores = []
    for turn in progress_bar(
        range(0, len(blocks), processes.size),
        desc="scoring pairs",
        unit="block",
        disable=processes.rank != 0,
        delay=_SECONDS_UNTIL_BAR,
        leave=False,
    ):
        of_each = blocks[turn : turn + processes.size]
        error, found = None, torch.zeros(0, device=device)
        left = _received(images, [block % len(images) for block in of_each])
        right = _received(texts, [block // len(images) for block in of_each])
        try:
            if len(left):
                found = _scores(head, left, right, device)
        except Exception as failure:
            error = failure
        processes.raise_together(error)
        scores.append(processes.all_gather(found[:, None], [len(block) for block in of_each]))
    return torch.cat(scores)[place.to(scores[0].device), 0].to(images.device)


def _received(side: ShardedFeatures, rows_of_each: Sequence[Tensor]) -> AnyFeatures:
    """Rows for each process, sent once however often they are listed; a collective."""
    wanted = [rows.unique() for rows in rows_of_each]
    rank = side.processes.rank
    features = side.take(wanted)
    return features[torch.searchsorted(wanted[rank], rows_of_each[rank]).to(features.device)]


def _scores(
    head: Similarity, images: AnyFeatures, texts: AnyFeatures, device: torch.device
) -> Tensor:
    with torch.autocast(device.type, enabled=False):
        both = ready(images, device, head), ready(texts, device, head)
        scores = head.score_pairs(*both).float()
        check_scores(scores, head, *both)
    return scores


def rank_shortlist(
    first: Stage,
    second: Stage,
    image_ids: Tensor,
    text_image_ids: Tensor,
    k: int,
) -> Ranks:
    """Ranks where a cheap head ranks all, and a dear one re-orders the best of each query.

    The ``k`` best answers by the first head are ranked by the second; the others follow in the
    order of the first. Ties count against the model, also at the edge of the list. Queries whose
    right answers are all below it keep their rank by the first head: they are not scored again.
    With ``k`` at least the number of answers the ranks are the second head's.

    Errors as of :func:`itm_lightning.ranking.rank`.

    Args:
        first: ranks everything.
        second: scores pairs, over the same gallery.
        image_ids: ``(N,)`` int64, each once.
        text_image_ids: ``(M,)`` int64, the id of each text's image.
        k: answers on a list.
    """
    image_of_text = text_to_image_rows(image_ids.cpu(), text_image_ids.cpu())
    own = image_of_text.bincount(minlength=len(image_ids))
    # so deep that answers tied with the k-th are there, whichever of them come first
    depth = k + int(own.max())
    gallery = first.images, first.texts, image_ids, text_image_ids
    ranks, near = rank_and_top_k(first.similarity, *gallery, depth)
    ordered = near.i2t.indices.cpu(), near.t2i.indices.cpu()
    of_image = image_of_text[ordered[0]] == torch.arange(len(image_ids))[:, None]
    i2t = _shortlist(near.i2t, of_image, k)
    t2i = _shortlist(near.t2i, ordered[1] == image_of_text[:, None], k)
    again = _ranks_on_lists(second, i2t, t2i)
    device = ranks.t2i.device
    i2t_ranks = ranks.t2i.new_zeros(len(own))
    i2t_ranks[own.to(device) > 0] = ranks.i2t
    i2t_ranks = torch.where(i2t.listed.any(dim=1).to(device), again.i2t, i2t_ranks)
    return Ranks(
        i2t_ranks[own.to(device) > 0],
        torch.where(t2i.listed.any(dim=1).to(device), again.t2i, ranks.t2i),
    )


def rank_sampled(
    stage: Stage,
    image_ids: Tensor,
    text_image_ids: Tensor,
    negatives: int,
    seed: int,
) -> Ranks:
    """Ranks of each query's right answer among itself and some wrong ones, drawn at random.

    Args:
        stage: the head and its gallery.
        image_ids: ``(N,)`` int64, each once.
        text_image_ids: ``(M,)`` int64, the id of each text's image; an image has one text at most.
        negatives: wrong answers of each query, all different.
        seed: of the draw.

    Raises:
        InputError: an image has several texts, there are too few wrong answers, or as
            :func:`itm_lightning.ranking.rank`.
    """
    image_of_text = text_to_image_rows(image_ids.cpu(), text_image_ids.cpu())
    n_images, n_texts = len(image_ids), len(image_of_text)
    own = image_of_text.bincount(minlength=n_images)
    if own.max() > 1:
        raise InputError("an image has several texts, and one right answer is ranked: keep one")
    if min(n_images, n_texts) <= negatives:
        raise InputError(
            f"there are {n_images} images and {n_texts} texts, too few to draw {negatives} wrong "
            "answers for each"
        )
    text_of_image = torch.full((n_images,), -1)
    text_of_image[image_of_text] = torch.arange(n_texts)
    generator = torch.Generator().manual_seed(seed)
    wrong = _drawn(text_of_image, n_texts, negatives, generator)
    i2t = _one_right(text_of_image.clamp(min=0), wrong, own > 0)
    wrong = _drawn(image_of_text, n_images, negatives, generator)
    t2i = _one_right(image_of_text, wrong, torch.ones(n_texts, dtype=torch.bool))
    ranks = _ranks_on_lists(stage, i2t, t2i)
    return Ranks(ranks.i2t[(own > 0).to(ranks.i2t.device)], ranks.t2i)


def _drawn(right: Tensor, total: int, count: int, generator: torch.Generator) -> Tensor:
    """``(n_queries, count)`` int64: different answers of ``total``, none the query's ``right``."""
    drawn = []
    for part in right.split(_QUERIES_AT_ONCE):
        draws = torch.rand(len(part), total, generator=generator)
        draws[torch.arange(len(part))[part >= 0], part[part >= 0]] = -1
        drawn.append(draws.topk(count, dim=1).indices)
    return torch.cat(drawn)


def _one_right(right: Tensor, wrong: Tensor, asks: Tensor) -> Lists:
    answers = torch.cat([right[:, None], wrong], dim=1)
    correct = torch.zeros_like(answers, dtype=torch.bool)
    correct[:, 0] = True
    return Lists(answers, correct, asks[:, None].expand_as(answers))


def _shortlist(near: Neighbours, correct: Tensor, k: int) -> Lists:
    """The first ``k`` of each query, among equals the wrong ones first; none without a right one.

    Args:
        near: at least as many more than ``k`` as a query has right answers.
        correct: ``(n_queries, depth)`` bool.
        k: answers on a list.
    """
    order = wrong_first(near.scores.cpu(), correct)[:, :k]
    listed = torch.zeros_like(correct).scatter(1, order, True)
    hopeful = (listed & correct).any(dim=1, keepdim=True)
    return Lists(near.indices.cpu(), correct, listed & hopeful)


def wrong_first(scores: Tensor, correct: Tensor) -> Tensor:
    """``(n_queries, depth)`` int64: the places of the answers, the best first, ties against it.

    Args:
        scores: ``(n_queries, depth)`` float.
        correct: ``(n_queries, depth)`` bool; among answers of equal score these come last.
    """
    order = correct.byte().argsort(dim=1, stable=True)
    by_score = scores.gather(1, order).argsort(dim=1, descending=True, stable=True)
    return order.gather(1, by_score)


def _ranks_on_lists(stage: Stage, i2t: Lists, t2i: Lists) -> Ranks:
    """Of every image and of every text; of no meaning where nothing is listed."""
    image_rows, columns = i2t.listed.nonzero(as_tuple=True)
    text_rows, places = t2i.listed.nonzero(as_tuple=True)
    images = torch.cat([image_rows, t2i.answers[text_rows, places]])
    texts = torch.cat([i2t.answers[image_rows, columns], text_rows])
    scores = score_listed(stage, images, texts)
    of_images, of_texts = scores.cpu().split([len(image_rows), len(text_rows)])
    return Ranks(i2t.ranks(of_images).to(scores.device), t2i.ranks(of_texts).to(scores.device))
