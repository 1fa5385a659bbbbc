"""Shortlists and sampled answers, against obvious loops over a table of scores."""

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ranking import (
    Stage,
    blocks,
    rank,
    rank_sampled,
    rank_shortlist,
    ranks_from_scores,
    score_listed,
)
from itm_lightning.similarity import Cosine, CrossAttention, TransformerMatching
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.ranking.test_ranks import IMAGE_IDS, TEXT_IMAGE_IDS, Table

N, M = 5, 10


def table(levels, seed):
    """Few levels make many ties."""
    generator = torch.Generator().manual_seed(100 * levels + seed)
    return Table(torch.randint(levels, (N, M), generator=generator).float())


def stage(head):
    return Stage(head, *head.sides())


def slow_rank(answers, first, second, ids, k):
    """Of one query: ``answers`` tells which are right; among equals the wrong ones come first."""
    order = sorted(range(len(answers)), key=lambda a: (-first[a], answers[a], ids[a]))
    listed = order[:k]
    right = [a for a in listed if answers[a]]
    if right:
        best = max(second[a] for a in right)
        return 1 + sum(second[a] >= best for a in listed if not answers[a])
    best = max(first[a] for a in order if answers[a])
    return 1 + sum(first[a] >= best for a in order if not answers[a])


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_a_shortlist_equals_the_obvious_loop(levels, k):
    first, second = table(levels, 1), table(levels, 2)
    found = rank_shortlist(stage(first), stage(second), IMAGE_IDS, TEXT_IMAGE_IDS, k)
    right = IMAGE_IDS[:, None] == TEXT_IMAGE_IDS
    i2t = [
        slow_rank(*(x[i].tolist() for x in (right, first.table, second.table)), TEXT_IMAGE_IDS, k)
        for i in range(N)
        if right[i].any()
    ]
    t2i = [
        slow_rank(*(x[:, j].tolist() for x in (right, first.table, second.table)), IMAGE_IDS, k)
        for j in range(M)
    ]
    assert found.i2t.tolist() == i2t
    assert found.t2i.tolist() == t2i


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("k", [10, 99])
def test_a_list_of_all_gives_the_second_heads_ranks(levels, k):
    first, second = table(levels, 1), table(levels, 2)
    found = rank_shortlist(stage(first), stage(second), IMAGE_IDS, TEXT_IMAGE_IDS, k)
    expected = ranks_from_scores(second.table, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert found.i2t.equal(expected.i2t)
    assert found.t2i.equal(expected.t2i)


def test_only_queries_with_hope_are_scored_again_and_each_pair_once(monkeypatch):
    first = Table([[3, 2, 1, 0], [3, 2, 1, 0], [0, 1, 2, 3], [2, 3, 0, 1]])
    second, asked = Table(torch.rand(4, 4)), []
    pairs = Table.score_pairs

    def counted(self, images, texts):
        asked.extend(zip(images.pooled[:, 0].tolist(), texts.pooled[:, 0].tolist(), strict=True))
        return pairs(self, images, texts)

    monkeypatch.setattr(Table, "score_pairs", counted)
    ids = torch.arange(4)
    rank_shortlist(stage(first), stage(second), ids, ids, 2)
    # image 0 lists texts 0 and 1, image 1 likewise, image 2 texts 3 and 2; image 3 has no hope.
    # texts 0 to 2 list images {0, 1}, {3, 0} in vain, {2, 0 or 1}; text 3 lists {2, 3}.
    assert len(asked) == len(set(asked))
    assert {(0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (2, 2)} <= set(asked)
    assert (3, 0) not in asked


IMAGES, TEXTS = made_up_features(7, 6, seed=1), made_up_features(9, 5, seed=2)
HEADS = [Cosine(), CrossAttention(), TransformerMatching(8, width=64).eval()]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize("bytes_of_a_block", [1, 2**12, 2**26])
def test_listed_pairs_are_scored_as_in_the_matrix(head, bytes_of_a_block, monkeypatch):
    monkeypatch.setattr(blocks, "_CPU_BYTES", bytes_of_a_block)
    rows, columns = torch.tensor([[6, 0], [2, 8], [6, 0], [2, 3], [5, 8]]).unbind(1)
    scores = score_listed(Stage(head, IMAGES, TEXTS), rows, columns)
    torch.testing.assert_close(scores, head(IMAGES, TEXTS)[rows, columns])
    assert scores[0] == scores[2]


def test_a_cheap_head_and_a_dear_one_read_what_they_need():
    owner = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 6])
    ids = torch.arange(7)
    cheap, dear = (Stage(head, IMAGES, TEXTS) for head in (HEADS[0], HEADS[2]))
    found = rank_shortlist(cheap, dear, ids, owner, 9)
    expected = rank(HEADS[2], IMAGES, TEXTS, ids, owner)
    assert found.i2t.equal(expected.i2t)
    assert found.t2i.equal(expected.t2i)


def test_nan_is_refused_by_name():
    head = Table(torch.full((N, M), torch.nan))
    with pytest.raises(InputError, match="Table gave a NaN score"):
        score_listed(stage(head), torch.tensor([0]), torch.tensor([0]))


OWN = torch.tensor([40, 10, 20])  # images 30 and 99 have no text


def test_sampled_answers_are_wrong_and_all_different():
    scores = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    found = [rank_sampled(stage(Table(scores)), IMAGE_IDS, OWN, 2, seed) for seed in range(40)]
    # with as many wrong texts as there are, the draw does not matter
    expected = ranks_from_scores(scores, IMAGE_IDS, OWN)
    assert all(ranks.i2t.equal(expected.i2t) for ranks in found)
    # of four wrong images two are drawn, each as often as the others
    t2i = torch.stack([ranks.t2i for ranks in found]).double()
    assert (t2i <= 3).all()
    torch.testing.assert_close(t2i.mean(0), 1 + (expected.t2i - 1).double() / 2, atol=0.35, rtol=0)
    again = rank_sampled(stage(Table(scores)), IMAGE_IDS, OWN, 2, 7)
    assert again.t2i.equal(found[7].t2i)


def test_what_cannot_be_sampled_is_refused():
    head = stage(Table(torch.rand(5, 3)))
    with pytest.raises(InputError, match="5 images and 3 texts, too few to draw 3 wrong answers"):
        rank_sampled(head, IMAGE_IDS, OWN, 3, 0)
    with pytest.raises(InputError, match="an image has several texts"):
        rank_sampled(head, IMAGE_IDS, torch.tensor([40, 10, 10]), 1, 0)


def test_features_stay_where_they_are_needed():
    """A row that is listed often is sent once."""
    images = Features.from_pooled(torch.arange(3.0)[:, None])
    texts = Features.from_pooled(torch.arange(2.0)[:, None])
    scores = score_listed(
        Stage(Table(torch.arange(6.0).view(3, 2)), images, texts),
        torch.tensor([2, 0, 2, 2]),
        torch.tensor([0, 1, 1, 0]),
    )
    assert scores.tolist() == [4.0, 1.0, 5.0, 4.0]
