import math

import pytest
import torch

from itm_lightning.similarity import HardAssignment, MaxSim
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.similarity.pairs import assert_scores_equal, at_degrees


def slow_score(regions, words, lse_temperature):
    nearest = [max(float(word @ region) for region in regions) for word in words]
    total = sum(math.exp(lse_temperature * cosine) for cosine in nearest)
    return math.log(total) / lse_temperature


def test_by_hand():
    images = Features.from_tokens(at_degrees(0, 30, 180))
    texts = Features.from_tokens(at_degrees(0, 90))  # nearest: 1 and cos 60
    score = HardAssignment(lse_temperature=2.0)(images, texts).item()
    assert score == pytest.approx(math.log(math.e**2 + math.e) / 2, abs=1e-6)


@pytest.mark.parametrize("lse_temperature", [1.0, 10.0, 100.0])
def test_equals_the_double_loop(lse_temperature):
    head = HardAssignment(lse_temperature)
    assert_scores_equal(head, lambda v, t: slow_score(v, t, lse_temperature))


def test_assigns_each_word_one_region():
    images, texts = made_up_features(3, 6, seed=1), made_up_features(4, 5, seed=2)
    alignment = HardAssignment().alignment(images, texts)
    assert alignment.equal(MaxSim("t2i").alignment(images, texts))
    assert alignment.unique().tolist() == [0, 1]
    assert alignment.sum(dim=2).equal(texts.mask.float().expand(3, -1, -1))


def test_only_assigned_pairs_learn():
    images = Features.from_tokens(torch.randn(1, 9, 8).requires_grad_())
    texts = Features.from_tokens(torch.randn(1, 3, 8))
    HardAssignment()(images, texts).sum().backward()
    learning = images.tokens.grad.abs().sum(dim=-1) > 0
    assert learning.equal(HardAssignment().alignment(images, texts).sum(dim=3)[0] > 0)
