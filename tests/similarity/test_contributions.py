"""Heads whose score is a sum of parts, one of each region and word."""

import itertools
import math

import pytest
import torch

from itm_lightning import similarity
from itm_lightning.similarity import Additive, CrossAttention
from itm_lightning.similarity.attention import AGGREGATORS
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.similarity.heads import HEADS, heads_that_are
from tests.similarity.pairs import at_degrees, unit_rows

EVERY = heads_that_are(Additive) + [
    pytest.param(CrossAttention(direction, aggregate=aggregate), id=f"{direction}, {aggregate}")
    for direction, aggregate in itertools.product(("t2i", "i2t", "both"), AGGREGATORS)
]
EXACT = [case for case in EVERY if case.values[0].left_out is None]


@pytest.fixture
def images():
    return made_up_features(5, length=7, seed=1)


@pytest.fixture
def texts():
    return made_up_features(6, length=4, seed=2)


def test_every_head_whose_score_is_a_sum_of_tokens_parts_offers_them():
    additive = {type(head).__name__ for head in HEADS.values() if isinstance(head, Additive)}
    assert additive == {
        *("CrossAttention", "HardAssignment", "MaxSim", "OptimalTransport", "SmoothChamfer")
    }


@pytest.mark.parametrize("head", EXACT)
def test_parts_add_up_to_the_score(head, images, texts):
    parts = head.contributions(images, texts)
    assert parts.shape == (5, 6, 7, 4)
    torch.testing.assert_close(parts.sum(dim=(2, 3)), head(images, texts), atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", EVERY)
def test_padding_has_no_part_and_changes_none(head, images, texts):
    parts = head.contributions(images, texts)
    padding = ~(images.mask[:, None, :, None] & texts.mask[None, :, None, :])
    assert (parts[padding.expand_as(parts)] == 0).all()
    for side in (images, texts):
        side.tokens[~side.mask] = torch.nan
    for i, j in ((1, 2), (4, 5)):
        image, text = images[i : i + 1].trim(), texts[j : j + 1].trim()
        alone = head.contributions(image, text)[0, 0]
        regions, words = alone.shape
        torch.testing.assert_close(parts[i, j, :regions, :words], alone, atol=1e-6, rtol=1e-5)


def entropy(logits):
    weights = torch.softmax(logits, dim=-1)
    return -(weights * weights.log()).sum(dim=-1)


def attended(queries, context, normalised, temperature):
    """The cosine of each query and its attended vector."""
    weights = torch.softmax(temperature * normalised, dim=1)
    return torch.cosine_similarity(queries, weights @ context, dim=1)


def clipped_l2norm(cosines):
    """Of ``(queries, context)``: every context token's similarities over the queries."""
    clipped = torch.nn.functional.leaky_relu(cosines, 0.1)
    return clipped / (clipped.norm(dim=0, keepdim=True) + 1e-8)


def of_cross_attention(v, t):
    cosines = t @ v.T
    return entropy(6 * attended(t, v, clipped_l2norm(cosines), 9)) / 6


def of_cross_attention_i2t(v, t):
    cosines = v @ t.T
    return entropy(5 * attended(v, t, clipped_l2norm(cosines), 4)) / 5


def of_smooth_chamfer(v, t):
    cosines = 16 * v @ t.T
    return (entropy(cosines).mean() + entropy(cosines.T).mean()) / 2 / 16


LEFT_OUT = {
    "CrossAttention": of_cross_attention,
    "CrossAttention, i2t": of_cross_attention_i2t,
    "CrossAttention, both": lambda v, t: (
        (of_cross_attention(v, t) + of_cross_attention_i2t(v, t)) / 2
    ),
    "HardAssignment": lambda v, t: entropy(10 * (t @ v.T).amax(dim=1)) / 10,
    "SmoothChamfer": of_smooth_chamfer,
}


def test_every_head_with_a_remainder_is_compared_with_it():
    inexact = {n for n, head in HEADS.items() if isinstance(head, Additive) and head.left_out}
    assert inexact == set(LEFT_OUT)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_the_entropy_that_it_says(name, images, texts):
    head = HEADS[name]
    assert "entropy" in head.left_out
    missing = head(images, texts) - head.contributions(images, texts).sum(dim=(2, 3))
    for i, j in itertools.product(range(5), range(6)):
        expected = LEFT_OUT[name](unit_rows(images, i), unit_rows(texts, j))
        assert missing[i, j].item() == pytest.approx(float(expected), abs=1e-5)


# three regions and two words; cosines: (1, 0), (cos 30, cos 60), (-1, 0)
REGIONS, WORDS = (Features.from_tokens(at_degrees(*degrees)) for degrees in ((0, 30, 180), (0, 90)))
COS_30, COS_60 = math.cos(math.pi / 6), 0.5


def assert_parts(head, expected):
    parts = head.contributions(REGIONS, WORDS)[0, 0]
    torch.testing.assert_close(parts, torch.tensor(expected), atol=1e-6, rtol=0)


def test_max_sim_by_hand():
    assert_parts(similarity.MaxSim("t2i", "Sum"), [[1, 0], [0, COS_60], [0, 0.0]])
    assert_parts(similarity.MaxSim("i2t"), [[1 / 3, 0], [COS_30 / 3, 0], [0, 0.0]])
    both = [[1 / 4 + 1 / 6, 0], [COS_30 / 6, COS_60 / 4], [0, 0.0]]
    assert_parts(similarity.MaxSim("both"), both)


def test_hard_assignment_by_hand():
    first = math.exp(10) / (math.exp(10) + math.exp(5))
    assert_parts(similarity.HardAssignment(), [[first, 0], [0, (1 - first) * COS_60], [0, 0]])
