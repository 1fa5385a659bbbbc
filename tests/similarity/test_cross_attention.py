import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import CrossAttention, unit_tokens
from itm_lightning.similarity.attention import AGGREGATORS, NORMALIZERS
from itm_lightning.types import Features
from tests.made_up import golden, made_up_features
from tests.similarity.pairs import assert_scores_equal, nothing_real, unit_rows

PUBLISHED = {"t2i": (9.0, 6.0), "i2t": (4.0, 5.0)}  # temperature, lse_temperature
GOLDEN = golden("cross_attention")
COLUMNS = [name for name in GOLDEN if "__" in name]


def golden_features():
    texts, lengths = GOLDEN["captions"], GOLDEN["caption_lengths"]
    mask = torch.arange(texts.shape[1])[None] < lengths[:, None]
    return Features.from_tokens(GOLDEN["images"]), Features.from_tokens(texts, mask)


@pytest.mark.parametrize("column", COLUMNS)
def test_equals_the_published_implementation(column):
    direction, normalize, aggregate = column.split("__")
    head = CrossAttention(direction, normalize, aggregate, *PUBLISHED[direction])
    torch.testing.assert_close(head(*golden_features()), GOLDEN[column], atol=1e-5, rtol=0)


def test_the_golden_file_has_every_published_setting():
    settings = zip(*(column.split("__") for column in COLUMNS), strict=True)
    directions, normalizers, aggregators = map(set, settings)
    assert directions == set(PUBLISHED)
    assert normalizers == set(NORMALIZERS) - {"l1norm", "clipped_l1norm"}  # broken in SCAN's code
    assert aggregators == set(AGGREGATORS)


def slow_attention(queries, context, normalize, temperature):
    """One pair, step by step: weights (A, K) of unit queries over unit context tokens."""
    s = queries @ context.T
    if normalize.startswith("clipped"):
        s = torch.where(s > 0, s, 0.1 * s)
    if normalize == "softmax":
        s = s.exp() / s.exp().sum(dim=0)
    elif normalize.endswith("l2norm"):
        s = s / ((s**2).sum(dim=0) ** 0.5 + 1e-8)
    elif normalize.endswith("l1norm"):
        s = s / (s.abs().sum(dim=0) + 1e-8)
    weights = (temperature * s).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def slow_score(queries, context, normalize, aggregate, temperature, lse_temperature):
    weights = slow_attention(queries, context, normalize, temperature)
    cosines = []
    for query, weight in zip(queries, weights, strict=True):
        attended = sum(w * c for w, c in zip(weight, context, strict=True))
        cosines.append(float(query @ attended / attended.norm()))
    if aggregate == "LogSumExp":
        return math.log(sum(math.exp(lse_temperature * x) for x in cosines)) / lse_temperature
    total = {"Max": max(cosines), "Sum": sum(cosines), "Mean": sum(cosines) / len(cosines)}
    return total[aggregate]


@pytest.mark.parametrize("direction", PUBLISHED)
@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("aggregate", AGGREGATORS)
def test_equals_the_obvious_loop(direction, normalize, aggregate):
    def slow(regions, words):
        sides = (words, regions) if direction == "t2i" else (regions, words)
        return slow_score(*sides, normalize, aggregate, 7.0, 3.0)

    assert_scores_equal(CrossAttention(direction, normalize, aggregate, 7.0, 3.0), slow)


@pytest.mark.parametrize("direction", PUBLISHED)
def test_alignment_is_the_attention_as_regions_by_words(direction):
    images, texts = made_up_features(3, 5, seed=3), made_up_features(4, 4, seed=4)
    alignment = CrossAttention(direction, "clipped_l2norm").alignment(images, texts)
    for i in range(3):
        for j in range(4):
            regions, words = unit_rows(images, i), unit_rows(texts, j)
            if direction == "t2i":
                expected = slow_attention(words, regions, "clipped_l2norm", 9.0).T
            else:
                expected = slow_attention(regions, words, "clipped_l2norm", 4.0)
            real = alignment[i, j, : len(regions), : len(words)]
            torch.testing.assert_close(real, expected)


def test_settings_are_the_published_ones_by_default():
    sides = golden_features()
    for direction, temperatures in PUBLISHED.items():
        explicit = CrossAttention(direction, "clipped_l2norm", "LogSumExp", *temperatures)
        assert CrossAttention(direction)(*sides).equal(explicit(*sides))


@pytest.mark.parametrize("temperatures", [(), (7.0, 3.0)])
def test_both_is_the_mean_of_the_directions(temperatures):
    sides = golden_features()
    both, *ways = (
        CrossAttention(way, "clipped_l2norm", "LogSumExp", *temperatures)
        for way in ("both", "t2i", "i2t")
    )
    torch.testing.assert_close(both(*sides), (ways[0](*sides) + ways[1](*sides)) / 2)
    mean = (ways[0].alignment(*sides) + ways[1].alignment(*sides)) / 2
    torch.testing.assert_close(both.alignment(*sides), mean)


def test_both_takes_one_product_of_regions_and_words(monkeypatch):
    products = []

    def counting(left, right):
        products.append((len(left), len(right)))
        return left @ right.mT

    monkeypatch.setattr("itm_lightning.similarity.unit_tokens.inner_products", counting)
    CrossAttention("both")(made_up_features(3, 5), made_up_features(4, 2))
    assert products == [(15, 8)]


@pytest.mark.parametrize("direction", [*PUBLISHED, "both"])
@pytest.mark.parametrize("aggregate", AGGREGATORS)
@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_sides_of_padding_alone_have_finite_scores_and_gradients(direction, aggregate, normalize):
    images = nothing_real(made_up_features(3, 5, seed=1), 1)
    texts = nothing_real(made_up_features(4, 4, seed=2), 2)
    leaves = [images.tokens.requires_grad_(), texts.tokens.requires_grad_()]
    scores = CrossAttention(direction, normalize, aggregate)(images, texts)
    assert scores.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(scores.mean(), leaves))


@pytest.mark.parametrize("elements", [1, 200])
def test_tiles_change_neither_scores_nor_gradients(monkeypatch, elements):
    images, texts = made_up_features(7, 5, seed=1), made_up_features(6, 4, seed=2)
    leaves = [images.tokens.requires_grad_(), texts.tokens.requires_grad_()]
    head, weights = CrossAttention("both"), torch.randn(7, 6)
    scores = head(images, texts)
    gradients = torch.autograd.grad((scores * weights).sum(), leaves)
    monkeypatch.setattr(unit_tokens, "_TILE_CPU_ELEMENTS", elements)
    again = head(images, texts)
    torch.testing.assert_close(again, scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.autograd.grad((again * weights).sum(), leaves), gradients)


@pytest.mark.parametrize("direction", [*PUBLISHED, "both"])
@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_gradients_equal_finite_differences(direction, normalize):
    head = CrossAttention(direction, normalize)
    images, texts = made_up_features(2, 3, 4, seed=5), made_up_features(2, 3, 4, seed=6)

    def scores(regions, words):
        return head(Features(regions, images.mask, None), Features(words, texts.mask, None))

    leaves = [f.tokens.double().requires_grad_() for f in (images, texts)]
    assert torch.autograd.gradcheck(scores, leaves, fast_mode=True)


@pytest.mark.parametrize("argument", ["direction", "normalize", "aggregate"])
def test_unknown_names_are_refused_with_those_there_are(argument):
    with pytest.raises(InputError, match=f"{argument} must be one of .*not L3norm") as error:
        CrossAttention(**{argument: "L3norm"})
    known = {"direction": [*PUBLISHED, "both"], "normalize": NORMALIZERS, "aggregate": AGGREGATORS}
    assert all(name in str(error.value) for name in known[argument])
