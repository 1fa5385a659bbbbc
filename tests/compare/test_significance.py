"""Intervals and tests of differences against direct computation, and what chance makes of them."""

import itertools
from math import comb

import numpy as np
import pytest

from itm_lightning.compare.significance import (
    bootstrap,
    differences,
    holm,
    mcnemar,
    sign_flips,
    sums_by_image,
)
from itm_lightning.errors import InputError

WAYS = "i2t", "t2i"


def made_up_run(seed, n_images=40, quality=1.0):
    """Ranks of images with one to four texts, shuffled; queries of one image are equally hard."""
    random = np.random.default_rng(0)
    texts = random.integers(1, 5, n_images)
    difficulty = random.exponential(4, n_images)
    random = np.random.default_rng(seed)
    image_of_text = np.repeat(np.arange(n_images), texts)
    hard = difficulty / quality
    i2t, t2i = random.permutation(n_images), random.permutation(len(image_of_text))
    run = {
        "i2t_ids": 7 * i2t,
        "i2t_ranks": 1 + random.poisson(hard[i2t]),
        "t2i_ids": 100 + t2i,
        "t2i_ranks": 1 + random.poisson(hard[image_of_text[t2i]]),
    }
    stops = 100 + texts.cumsum()
    texts_of_image = {
        7 * i: list(range(stop - count, stop))
        for i, (stop, count) in enumerate(zip(stops, texts, strict=True))
    }
    return run, texts_of_image


def by_seed(runs):
    return dict(enumerate(runs, start=1))


def score_of(run, metric, images, texts_of_image):
    """A score of some images, some of them several times, with all their texts; query by query."""
    ranks = {way: dict(zip(run[f"{way}_ids"], run[f"{way}_ranks"], strict=True)) for way in WAYS}
    if metric == "rsum":
        names = [f"{way}_R@{k}" for way in WAYS for k in (1, 5, 10)]
        return sum(score_of(run, name, images, texts_of_image) for name in names)
    way, k = metric.split("_R@")
    ids = images if way == "i2t" else [text for i in images for text in texts_of_image[i]]
    return 100 * sum(ranks[way][query] <= int(k) for query in ids) / len(ids)


def test_the_differences_are_those_of_the_scores():
    runs = {"a": [made_up_run(1)[0], made_up_run(2)[0]], "b": [made_up_run(3)[0]]}
    texts_of_image = made_up_run(1)[1]
    metrics = ["rsum", "i2t_R@1", "t2i_R@5"]
    variants = {label: by_seed(of_label) for label, of_label in runs.items()}
    for found in differences(variants, texts_of_image, metrics, resamples=10):
        scores = {
            label: np.mean(
                [
                    score_of(run, found.metric, list(texts_of_image), texts_of_image)
                    for run in of_label
                ]
            )
            for label, of_label in runs.items()
        }
        assert found.difference == pytest.approx(scores["a"] - scores["b"])


def test_bootstrap_draws_images_with_all_their_texts_and_runs():
    """The same draws, made one at a time by a loop over queries."""
    resamples, n_images = 20, 40
    several = [[1, 2, 3], [4, 5, 6], [7], [8, 9, 10]]
    runs = [[made_up_run(seed)[0] for seed in of_variant] for of_variant in several]
    seeds = [(1, 2, 3), (1, 2, 3), (1,), (2, 3, 4)]  # the last has others
    texts_of_image = made_up_run(1)[1]
    image_of_text = [i for i, texts in enumerate(texts_of_image.values()) for _ in texts]
    rows = {"i2t": np.arange(n_images), "t2i": np.array(image_of_text)}
    hits = [
        sums_by_image(
            {
                way: np.stack([run[f"{way}_ranks"][run[f"{way}_ids"].argsort()] for run in own])
                for way in WAYS
            },
            rows,
        )
        for own in runs
    ]
    queries = np.stack([np.ones(n_images), np.bincount(image_of_text)], axis=1)[
        :, [0, 0, 0, 1, 1, 1]
    ]
    found = bootstrap(hits, seeds, queries, resamples, np.random.default_rng(5))

    rng = np.random.default_rng(5)
    images = rng.integers(n_images, size=(resamples, n_images))
    drawn = {
        of_runs: rng.integers(len(of_runs), size=(resamples, len(of_runs), 1))
        for of_runs in ((1,), (1, 2, 3), (2, 3, 4))
    }
    for b, (v, own) in itertools.product(range(resamples), enumerate(runs)):
        picked = [own[int(s)] for s in drawn[seeds[v]][b, :, 0]]
        for column, metric in enumerate([f"{way}_R@{k}" for way in WAYS for k in (1, 5, 10)]):
            ids = [7 * int(image) for image in images[b]]
            scores = [score_of(run, metric, ids, texts_of_image) for run in picked]
            assert found[b, v, column] == pytest.approx(np.mean(scores))


def test_mcnemar_is_the_binomial_sum():
    for wins, losses in itertools.product(range(9), range(9)):
        n = wins + losses
        tail = sum(comb(n, k) * 0.5**n for k in range(min(wins, losses) + 1))
        assert mcnemar(wins, losses) == pytest.approx(min(1, 2 * tail))
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert 0 < mcnemar(400, 700) < 1e-18


def test_sign_flips_approach_the_exact_test_over_all_signs():
    shares = np.random.default_rng(0).normal(0.3, 1, (3, 8)).round(1)
    found = sign_flips(shares, 20_000, np.random.default_rng(1))
    signs = list(itertools.product([-1, 1], repeat=8))
    for a, b in itertools.combinations(range(3), 2):
        gaps = shares[a] - shares[b]
        as_large = [
            abs(sum(s * g for s, g in zip(way, gaps, strict=True))) >= abs(gaps.sum()) - 1e-9
            for way in signs
        ]
        assert found[a, b] == found[b, a] == pytest.approx(np.mean(as_large), abs=0.015)
    assert (found.diagonal() == 1).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


def test_identical_heads_do_not_differ():
    texts_of_image = made_up_run(1)[1]
    runs = [made_up_run(1)[0], made_up_run(2)[0]]
    for same in (by_seed(runs[:1]), by_seed(runs)):
        variants = {"a": same, "b": same}
        found = differences(variants, texts_of_image, resamples=200)
        assert [one.metric for one in found] == ["rsum", "i2t_R@1", "t2i_R@1"]
        for one in found:
            assert (one.difference, one.low, one.high) == (0, 0, 0)
            assert (one.p, one.p_holm, one.wins, one.losses) == (1, 1, 0, 0)
            assert not one.is_significant


def test_runs_in_any_order_are_told_apart_by_their_seeds():
    texts_of_image = made_up_run(1)[1]
    first, second = ({seed: made_up_run(seed + n)[0] for seed in (1, 2, 3)} for n in (0, 10))
    found = differences({"a": first, "b": second}, texts_of_image, resamples=50)
    turned = dict(reversed(second.items()))
    assert found == differences({"a": first, "b": turned}, texts_of_image, resamples=50)


def test_a_clear_difference_is_found_and_holm_corrects_within_a_metric():
    texts_of_image = made_up_run(1)[1]
    variants = {
        "good": by_seed([made_up_run(1, quality=8)[0]]),
        "poor": by_seed([made_up_run(2)[0]]),
        "as poor": by_seed([made_up_run(3)[0]]),
    }
    found = differences(variants, texts_of_image, resamples=2000)
    for metric in ("rsum", "i2t_R@1", "t2i_R@1"):
        of_metric = [one for one in found if one.metric == metric]
        assert [(one.first, one.second) for one in of_metric] == list(
            itertools.combinations(variants, 2)
        )
        assert [one.is_significant for one in of_metric] == [True, True, False]
        assert [one.p_holm for one in of_metric] == holm([one.p for one in of_metric])
        assert all(one.low < one.difference < one.high for one in of_metric)
        assert of_metric[0].wins > of_metric[0].losses
    exact = next(one for one in found if one.metric == "i2t_R@1")
    assert exact.p == mcnemar(exact.wins, exact.losses)


@pytest.mark.parametrize("seeds", [1, 2])
def test_ranks_swapped_at_random_seldom_differ(seeds):
    """Image by image, both heads exchange their ranks or not: then there is no difference."""
    trials, n_images = 400, 40
    heads = [[made_up_run(2 * s + h, quality=1 + h)[0] for s in range(seeds)] for h in range(2)]
    texts_of_image = made_up_run(0)[1]
    image_of_text = {text: image for image, texts in texts_of_image.items() for text in texts}
    random = np.random.default_rng(0)
    significant, said = (dict.fromkeys(("rsum", "i2t_R@1", "t2i_R@1"), 0) for _ in range(2))
    sorted_heads = [[sorted_by_id(run) for run in runs] for runs in heads]
    images = np.array(list(texts_of_image))
    for _ in range(trials):
        swapped = set(images[random.random(n_images) < 0.5].tolist())
        swaps = {
            "i2t_ranks": np.array([int(i) in swapped for i in sorted_heads[0][0]["i2t_ids"]]),
            "t2i_ranks": np.array(
                [image_of_text[int(t)] in swapped for t in sorted_heads[0][0]["t2i_ids"]]
            ),
        }
        mixed = [
            [
                own | {name: np.where(swap, other[name], own[name]) for name, swap in swaps.items()}
                for own, other in zip(mine, others, strict=True)
            ]
            for mine, others in (sorted_heads, sorted_heads[::-1])
        ]
        variants = dict(zip("ab", map(by_seed, mixed), strict=True))
        for one in differences(
            variants, texts_of_image, resamples=199, seed=int(random.integers(99))
        ):
            significant[one.metric] += one.p < 0.05
            said[one.metric] += one.is_significant
    # 5 % of 400 and three standard deviations of such a count
    assert all(count <= 20 + 3 * (400 * 0.05 * 0.95) ** 0.5 for count in significant.values())
    assert all(said[metric] <= count for metric, count in significant.items())
    assert said["rsum"] > 5  # and no test that never finds anything


def sorted_by_id(run):
    order = {way: run[f"{way}_ids"].argsort() for way in WAYS}
    return {name: values[order[name[:3]]] for name, values in run.items()}


def test_runs_over_other_queries_are_refused():
    (run, texts_of_image), (other, _) = made_up_run(1), made_up_run(2, n_images=30)
    with pytest.raises(InputError, match="different queries"):
        differences({"a": {1: run}, "b": {1: other}}, texts_of_image)
    with pytest.raises(InputError, match="text id 100 "):
        differences({"a": {1: run}, "b": {1: run}}, {k: v for k, v in texts_of_image.items() if k})
