"""Deletion, insertion and shuffled weights against hand-computed values and a slow loop."""

import math

import pytest
import torch
from torch.nn import functional as F

from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.explain.faithfulness import (
    STEPS,
    area_under,
    baselines,
    deleted,
    first_pixels,
    in_order,
    inserted,
    outranked,
    relative,
    scores_of_pixels,
    shuffled_weights,
)
from itm_lightning.explain.words import spans_of
from itm_lightning.matcher import Matcher
from itm_lightning.similarity import Bilinear


@pytest.fixture
def matcher():
    torch.manual_seed(0)
    image_encoder = TorchvisionCNN("squeezenet1_1", image_size=64)
    text_encoder = RecurrentText(hidden=8, word_dim=8)
    text_encoder.learn_vocabulary(["a red dog", "two cats sleep"])
    return Matcher(image_encoder, text_encoder, Bilinear(dim=16), dim=16).eval()


def test_pixels_come_in_equal_steps_and_in_the_maps_order():
    maps = torch.tensor([[[0.0, 1.0], [3.0, 2.0]]])
    first = first_pixels(maps, 10, 10, seed=0)
    assert first.shape == (1, STEPS + 1, 10, 10)
    assert first.sum(dim=(2, 3)).tolist() == [[5 * step for step in range(STEPS + 1)]]
    assert (first[:, 1:] >= first[:, :-1]).all()  # what has gone stays away
    assert first[0, 1, 5:, :5].sum() == 5  # the largest cell's own pixels come first
    assert first[0, -2, :5, :5].sum() == 20  # and the smallest cell's last


def test_a_maps_x_is_the_images_x():
    first = first_pixels(torch.tensor([[[0.0, 0.0, 5.0]]]), 6, 12, seed=0)
    assert first[0, 5, :, 9:].sum() == 18
    assert first[0, 5, :, :8].sum() == 0


def test_equal_values_come_in_one_random_order_and_not_from_the_top():
    flat = torch.zeros(1, 4, 4)
    first = first_pixels(flat, 40, 40, seed=3)
    quarter = first[0, 5].float().view(4, 10, 40).mean(dim=(1, 2))
    assert quarter.tolist() == pytest.approx([0.25] * 4, abs=0.1)  # from everywhere alike
    some, others = (first_pixels(flat, 40, 40, seed=seed)[0, 10] for seed in (3, 4))
    assert (some == first[0, 10]).all()
    assert (some != others).any()
    ranks = in_order(torch.tensor([[0.0] * 9, [0.0] * 8 + [1.0]]), seed=5).tolist()
    assert ranks[1] == [8, *(index for index in ranks[0] if index != 8)]  # the same for all maps
    assert ranks[0] != list(range(9))


def test_deletion_leaves_the_mean_colour_and_insertion_starts_blurred():
    pixels = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(torch.uint8)
    gone = torch.zeros(2, 16, 16, dtype=torch.bool)
    gone[0, 3, 5] = True
    gone[1] = True
    some, empty = deleted(pixels, gone)
    assert some[:, 3, 5].tolist() == [round(p.double().mean().item()) for p in pixels]
    assert ((some != pixels).sum(dim=(1, 2)) <= 1).all()
    assert (empty == empty[:, :1, :1]).all()
    kernel = torch.exp(-(torch.arange(-5, 6).double() ** 2) / (2 * 25))
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    padded = F.pad(pixels[:, None].double(), (5, 5, 5, 5), mode="reflect")
    blurred = F.conv2d(padded, kernel[None, None])[:, 0]
    assert (inserted(pixels, ~gone)[1].double() - blurred).abs().max() <= 1
    assert (inserted(pixels, ~gone)[0] == pixels)[:, gone[0].logical_not()].all()


@pytest.mark.parametrize(
    ("scores", "share"),
    [
        ([5.0, 1, 2, 3], 1.0),
        ([2.5, 1, 2, 3], 2 / 3),
        ([3.0, 1, 2, 3], 2 / 3),  # a tie counts against the model
        ([0.0, 1, 2, 3], 0.0),
    ],
)
def test_share_outranked(scores, share):
    assert outranked(torch.tensor([scores]), 0).item() == pytest.approx(share)
    assert outranked(torch.tensor([scores[::-1]]), 3).item() == pytest.approx(share)


@pytest.mark.parametrize(
    ("curve", "area"),
    [
        ([0.0, 1, 2, 4], (0 + 0.25) / 6 + (0.25 + 0.5) / 6 + (0.5 + 1) / 6),
        ([3.0, 0, 9, 4], (0 + 0) / 6 + (0 + 1) / 6 + (1 + 1) / 6),  # clipped at both ends
        ([2.0, 5, 5, 2], math.nan),
        ([2.0, 5, 5, 1], math.nan),
    ],
)
def test_area_under_a_relative_curve(curve, area):
    value = area_under(relative(torch.tensor(curve)))
    assert value.item() == pytest.approx(area, nan_ok=True)


def test_baselines_are_seeded_and_centred():
    random, centre = baselines(5, 3, seed=1)
    assert (random == baselines(5, 3, seed=1)[0]).all()
    assert (random != baselines(5, 3, seed=2)[0]).any()
    assert centre.flatten().argmax() == 7
    assert centre.flatten().argsort()[:4].sort().values.tolist() == [0, 2, 12, 14]


def test_scores_of_many_images_are_those_of_each(matcher):
    pixels = torch.randint(0, 256, (2, 35, 3, 64, 64)).to(torch.uint8)  # more than go at once
    texts = matcher.encode_texts(["a red dog", "two cats", "sleep"])
    scores = scores_of_pixels(matcher, pixels, matcher.similarity.prepare_texts(texts))
    assert scores.shape == (2, 35, 3)
    with torch.no_grad():
        for index in ((0, 0), (1, 33)):
            one = matcher(pixels[index][None], ["a red dog", "two cats", "sleep"])[0]
            assert torch.allclose(scores[index], one, atol=1e-5)


def test_spans_find_words_in_order_and_miss_what_is_not_there():
    text = "A dog, a dog’s ball"
    spans = spans_of(["a", "dog", "[UNK]", "a", "dog", "s", "", "BALL"], text)
    assert [span and text[slice(*span)] for span in spans] == (
        ["A", "dog", None, "a", "dog", "s", None, "ball"]
    )
    assert spans[3] == (7, 8)


def test_weights_are_shuffled_within_and_come_back(matcher):
    before = {name: value.clone() for name, value in matcher.state_dict().items()}
    with shuffled_weights(matcher) as any_weights:
        assert any_weights
        during = {name: value.clone() for name, value in matcher.state_dict().items()}
    changed = {name.split(".")[0] for name in before if (before[name] != during[name]).any()}
    assert changed == {"similarity", "image_projection", "text_projection"}
    for name, value in before.items():
        assert torch.equal(value.flatten().sort().values, during[name].flatten().sort().values)
        assert torch.equal(value, matcher.state_dict()[name])
