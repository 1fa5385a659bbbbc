import math

import pytest
import torch

from itm_lightning.similarity import MaxSim, SmoothChamfer
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.similarity.pairs import assert_scores_equal, at_degrees


def slow_score(regions, words, alpha):
    def half(these, those):
        logs = [math.log(sum(math.exp(alpha * float(x @ y)) for y in those)) for x in these]
        return sum(logs) / (2 * alpha * len(these))

    return half(regions, words) + half(words, regions)


def test_by_hand():
    images = Features.from_tokens(at_degrees(0, 90))
    texts = Features.from_tokens(at_degrees(0))  # cosines 1 and 0
    of_regions = (3 * 1 + 3 * 0) / (2 * 3 * 2)
    of_words = math.log(math.e**3 + 1) / (2 * 3)
    score = SmoothChamfer(temperature=3.0)(images, texts).item()
    assert score == pytest.approx(of_regions + of_words, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 16.0, 100.0])
def test_equals_the_double_loop(temperature):
    head = SmoothChamfer(temperature)
    assert_scores_equal(head, lambda v, t: slow_score(v, t, temperature))


def test_becomes_chamfer_as_the_temperature_grows():
    images, texts = made_up_features(4, 6, seed=1), made_up_features(5, 4, seed=2)
    chamfer = MaxSim("both", "Mean")(images, texts)
    gaps = [(SmoothChamfer(t)(images, texts) - chamfer).abs().max().item() for t in (4, 64, 1024)]
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]
    assert gaps[2] < 1e-3
    # LogSumExp of k numbers is above their maximum by log k / α at most
    assert gaps[0] <= (math.log(6) + math.log(4)) / (2 * 4)


def test_every_pair_of_tokens_learns():
    images = Features.from_tokens(torch.randn(1, 9, 8).requires_grad_())
    texts = Features.from_tokens(torch.randn(1, 3, 8).requires_grad_())
    SmoothChamfer()(images, texts).sum().backward()
    assert all((side.tokens.grad.abs().sum(dim=-1) > 0).all() for side in (images, texts))


def test_padding_counts_for_nothing_even_in_float64():
    images, texts = made_up_features(4, 6, seed=1), made_up_features(5, 4, seed=2)
    exact = [Features.from_tokens(side.tokens.double(), side.mask) for side in (images, texts)]
    scores = SmoothChamfer(1.0)(*exact)
    for i in range(4):
        alone = SmoothChamfer(1.0)(exact[0][i : i + 1].trim(), exact[1])
        torch.testing.assert_close(scores[i : i + 1], alone, atol=1e-14, rtol=0)
