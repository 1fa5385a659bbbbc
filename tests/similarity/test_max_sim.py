import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import MaxSim
from itm_lightning.types import Features
from tests.similarity.pairs import assert_scores_equal, at_degrees

COS_30, COS_60 = math.cos(math.pi / 6), 0.5
# three regions and two words; cosines: (1, 0), (cos 30, cos 60), (-1, 0)
REGIONS, WORDS = (at_degrees(0, 30, 180), at_degrees(0, 90))
BY_HAND = {
    ("t2i", "Sum"): 1 + COS_60,
    ("t2i", "Mean"): (1 + COS_60) / 2,
    ("i2t", "Sum"): 1 + COS_30 + 0,
    ("i2t", "Mean"): (1 + COS_30 + 0) / 3,
    ("both", "Sum"): (1 + COS_60 + 1 + COS_30) / 2,
    ("both", "Mean"): ((1 + COS_60) / 2 + (1 + COS_30) / 3) / 2,
}
ALIGNED = {
    "t2i": [[1, 0], [0, 1], [0, 0]],
    "i2t": [[1, 0], [1, 0], [0, 1]],
    "both": [[1, 0], [0.5, 0.5], [0, 0.5]],
}


def slow_score(regions, words, direction, aggregate):
    def mean_of_largest(queries, context):
        total = sum(max(float(q @ c) for c in context) for q in queries)
        return total / len(queries) if aggregate == "Mean" else total

    scores = {"t2i": mean_of_largest(words, regions), "i2t": mean_of_largest(regions, words)}
    return scores.get(direction, sum(scores.values()) / 2)


@pytest.mark.parametrize(("direction", "aggregate"), BY_HAND)
def test_by_hand(direction, aggregate):
    images, texts = Features.from_tokens(REGIONS), Features.from_tokens(WORDS)
    score = MaxSim(direction, aggregate)(images, texts).item()
    assert score == pytest.approx(BY_HAND[direction, aggregate], abs=1e-6)


@pytest.mark.parametrize(("direction", "aggregate"), BY_HAND)
def test_equals_the_double_loop(direction, aggregate):
    head = MaxSim(direction, aggregate)
    assert_scores_equal(head, lambda v, t: slow_score(v, t, direction, aggregate))


@pytest.mark.parametrize("direction", ALIGNED)
def test_aligns_each_token_with_its_nearest(direction):
    images, texts = Features.from_tokens(REGIONS), Features.from_tokens(WORDS)
    alignment = MaxSim(direction).alignment(images, texts)
    assert alignment.tolist() == [[ALIGNED[direction]]]


@pytest.mark.parametrize("argument", ["direction", "aggregate"])
def test_unknown_names_are_refused_with_those_there_are(argument):
    known = {"direction": "t2i, i2t, both", "aggregate": "Mean, Sum"}[argument]
    with pytest.raises(InputError, match=f"MaxSim: {argument} must be one of {known}, not LogSum"):
        MaxSim(**{argument: "LogSum"})


def test_opposite_tokens_are_nearer_than_padding():
    tokens, mask = at_degrees(180, 77), torch.tensor([[True, False]])
    images, texts = Features(tokens, mask, None), Features.from_tokens(at_degrees(0))
    assert MaxSim()(images, texts).item() == pytest.approx(-1)
