"""Shortlist and SampledNegatives, on members' features and on shared ones."""

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics import Gallery
from itm_lightning.metrics.protocols import Retrieval, SampledNegatives, Shortlist
from itm_lightning.similarity import Cosine, CrossAttention, Ensemble
from tests.distributed.galleries import IMAGE_IDS, LAYOUT, OWNER, TEXT_IDS, features

TRUTH = GroundTruth(LAYOUT | {int(i): [] for i in IMAGE_IDS if int(i) not in LAYOUT})
BOTH = Ensemble([Cosine(), CrossAttention()])


def gallery(members):
    return Gallery(*features(False, members), IMAGE_IDS, IMAGE_IDS[OWNER], TEXT_IDS)


def of_second(whole, members):
    if not members:
        return whole
    images, texts = whole.images.parts[1], whole.texts.parts[1]
    return Gallery(images, texts, IMAGE_IDS, IMAGE_IDS[OWNER], TEXT_IDS)


@pytest.mark.parametrize("members", [False, True], ids=["shared", "of each"])
def test_a_list_of_all_gives_the_scores_of_the_second(members):
    whole = gallery(members)
    found = Shortlist(1000).evaluate(BOTH, whole, TRUTH)
    alone = Retrieval().evaluate(BOTH.each[1], of_second(whole, members), TRUTH)
    assert found.scores == alone.scores
    assert found.queries == alone.queries


def test_a_list_of_one_gives_the_scores_of_the_first():
    whole = gallery(False)
    found = Shortlist(1).evaluate(BOTH, whole, TRUTH)
    assert found.scores == Retrieval().evaluate(BOTH.each[0], whole, TRUTH).scores


def test_a_short_list_is_neither():
    whole = gallery(False)
    scores = [Shortlist(k).evaluate(BOTH, whole, TRUTH).scores for k in (1, 4, 1000)]
    assert len({tuple(each.values()) for each in scores}) == 3


@pytest.mark.parametrize("head", [Cosine(), Ensemble([Cosine()])])
def test_one_model_is_refused_with_the_way_to_give_two(head):
    with pytest.raises(InputError, match=r"needs two models, and there is 1: give --ckpt_path"):
        Shortlist().check_head(head)


def test_sampled_answers_are_few_and_the_same_each_time():
    one, again = (SampledNegatives(9).evaluate(Cosine(), gallery(False), TRUTH) for _ in range(2))
    other = SampledNegatives(9, seed=1).evaluate(Cosine(), gallery(False), TRUTH)
    assert one.per_query["i2t_ranks"].max() <= 10
    assert one.per_query["t2i_ranks"].max() <= 10
    assert one.scores == again.scores != other.scores
    assert one.queries == {"i2t": len(LAYOUT), "t2i": len(LAYOUT)}
    first = {image: texts[0] for image, texts in LAYOUT.items()}
    assert set(one.per_query["t2i_ids"].tolist()) == set(first.values())


def test_of_a_perfect_model_each_answer_is_first():
    images = features(False)[0][torch.arange(len(LAYOUT))]
    ids = torch.arange(len(images))
    whole = Gallery(images, images, ids, ids, ids)
    truth = GroundTruth({int(i): [int(i)] for i in ids})
    found = SampledNegatives(20).evaluate(Cosine(), whole, truth)
    assert found.scores["rsum"] == 600


def test_too_small_a_split_is_refused_with_the_mend():
    with pytest.raises(InputError, match=r"29 images, 24 of them with texts: set protocol\.neg"):
        SampledNegatives(24).check(TRUTH)
    with pytest.raises(InputError, match="negatives is 0"):
        SampledNegatives(0)
    with pytest.raises(InputError, match="Shortlist: k is 0"):
        Shortlist(0)
