"""Significance: how sure a difference between trained heads is, from the ranks of their queries.

An image and all its texts are one unit throughout. The texts of an image have one answer, so what
becomes of them is correlated: taken as independent, intervals would come out too narrow. The
gallery stays as it is; only queries are resampled, for an image drawn twice would tie with itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itm_lightning.errors import InputError

_COLUMNS = tuple(f"{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10))
_LEVEL = 0.05
_AT_ONCE = 500  # resamples: of 5,000 images their weights are 20 MB
_ROUNDING = 1e-9  # percentage points: sums that are equal differ by less, others by far more

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Ranks = Mapping[str, Integers]


@dataclass(frozen=True)
class Difference:
    """The difference of two variants in one score, first − second.

    Attributes:
        first: a variant's label.
        second: the other's.
        metric: ``"rsum"``, ``"i2t_R@1"``, …
        difference: of the scores, in percentage points; each the mean over a variant's runs.
        low: lower end of the 95 % interval of the bootstrap, see :func:`bootstrap`. With several
            runs a variant it includes what other seeds would give; with one run it cannot.
        high: its upper end.
        p: of the hypothesis that the two are exchangeable on every image, with these weights (what
            other seeds would give is in the interval alone). Exact :func:`mcnemar` for image
            queries at one K and one run each; otherwise :func:`sign_flips` over images.
        p_holm: the same, corrected by :func:`holm` for all pairs of variants under this metric.
        wins: how many queries the first answers among its first K and the second does not; with
            several runs, those answered in a larger share of the first's. K is 1 for ``rsum``.
        losses: the same with first and second exchanged.
    """

    first: str
    second: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    losses: int

    @property
    def is_significant(self) -> bool:
        """Whether at 5 % the corrected p and the interval both say so."""
        return self.p_holm < _LEVEL and not self.low <= 0 <= self.high


def differences(
    variants: Mapping[str, Mapping[int, Mapping[str, NDArray[Any]]]],
    texts_of_image: Mapping[int, Sequence[int]],
    metrics: Sequence[str] = ("rsum", "i2t_R@1", "t2i_R@1"),
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Difference]:
    """The differences of every pair of variants, metric by metric.

    Args:
        variants: by label, of each of its runs, by seed, the arrays of ``<split>_ranks.npz``:
            ``i2t_ids (N,)``, ``i2t_ranks (N,)``, ``t2i_ids (M,)`` and ``t2i_ranks (M,)``, int64.
        texts_of_image: the ids of each image's texts, by the image's id.
        metrics: ``rsum``, ``i2t_R@1``, ``t2i_R@10``, …, with K of 1, 5 and 10.
        resamples: of the bootstrap, and of the sign flips.
        seed: of both.

    Raises:
        InputError: two runs ranked different queries, or a text has no image.
    """
    seeds = [sorted(runs) for runs in variants.values()]
    in_order = [
        [runs[seed] for seed in of] for of, runs in zip(seeds, variants.values(), strict=True)
    ]
    every = [run for runs in in_order for run in runs]
    ids = {way: np.sort(every[0][f"{way}_ids"]) for way in ("i2t", "t2i")}
    ranks = [_ranks_by_id(runs, ids) for runs in in_order]
    rows = _image_rows(ids, texts_of_image)
    all_found = {way: np.ones((1, len(of_way)), np.int64) for way, of_way in rows.items()}
    queries = sums_by_image(all_found, rows)[0]
    hits = [sums_by_image(of_variant, rows) for of_variant in ranks]
    rng = np.random.default_rng(seed)
    resampled = bootstrap(hits, seeds, queries, resamples, rng)
    # what an image adds to a score: the sum over images is the score
    shares = 100 * np.stack([runs.mean(axis=0) for runs in hits]) / queries.sum(axis=0)

    labels, result = list(variants), []
    for metric in metrics:
        columns = [_COLUMNS.index(name) for name in (_COLUMNS if metric == "rsum" else (metric,))]
        scores = resampled[:, :, columns].sum(axis=-1)
        share = shares[:, :, columns].sum(axis=-1)
        flipped = sign_flips(share, resamples, rng)
        found = []
        for a, b in itertools.combinations(range(len(labels)), 2):
            low, high = np.quantile(scores[:, a] - scores[:, b], (_LEVEL / 2, 1 - _LEVEL / 2))
            ahead = _share_answered(ranks[a], metric) - _share_answered(ranks[b], metric)
            wins, losses = int((ahead > 0).sum()), int((ahead < 0).sum())
            one_run_each = len(hits[a]) == len(hits[b]) == 1
            exact = metric.startswith("i2t") and one_run_each  # an image is one query
            p = mcnemar(wins, losses) if exact else float(flipped[a, b])
            gap = float((share[a] - share[b]).sum())
            pair = labels[a], labels[b], metric
            found.append(Difference(*pair, gap, float(low), float(high), p, p, wins, losses))
        corrected = holm([difference.p for difference in found])
        result += [replace(d, p_holm=p) for d, p in zip(found, corrected, strict=True)]
    return result


def sums_by_image(ranks: Ranks, rows: Mapping[str, Integers]) -> Floats:
    """How many of each image's queries are answered among the first 1, 5 and 10, both ways.

    Args:
        ranks: ``(S, n_queries)`` of S runs, by way; 1 is first.
        rows: ``(n_queries,)``, the number of each query's image among ``n_images``, by way.

    Returns:
        ``(S, n_images, 6)``; the last dimension is i2t R@1, R@5, R@10 and then t2i.
    """
    columns = []
    for name in _COLUMNS:
        way, k = name.split("_R@")
        found = ranks[way] <= int(k)
        sums = [np.bincount(rows[way], run, minlength=len(rows["i2t"])) for run in found]
        columns.append(np.stack(sums))
    return np.stack(columns, axis=-1)


def bootstrap(
    hits: Sequence[Floats],
    seeds: Sequence[Sequence[int]],
    queries: Floats,
    resamples: int,
    rng: np.random.Generator,
) -> Floats:
    """R@K of resampled images with all their texts, in percent; and of resampled runs.

    All variants are scored on the same resamples, so differences of the result are those of a
    paired bootstrap. Runs, which differ by their seed, are the outer of two levels: from S runs of
    a variant, S are drawn, and their mean is taken. Variants of the same seeds are drawn together,
    run by run (a seed decides the same batches for all); otherwise independently. Of so few runs
    the spread comes out too small: by the factor √((S − 1) / S), 0.82 for three.

    Efron & Tibshirani (1993), An introduction to the bootstrap, sections 8.2 and 13.3.

    Args:
        hits: of each variant, ``(S, n_images, C)`` as :func:`sums_by_image` gives them.
        seeds: of each variant's runs.
        queries: ``(n_images, C)``, how many queries each image and its texts ask.
        resamples: how many.
        rng: draws images and runs.

    Returns:
        ``(resamples, n_variants, C)``.
    """
    n_images = len(queries)
    columns = np.concatenate([*(run for runs in hits for run in runs), queries], axis=1)
    result = np.empty((resamples, len(hits), queries.shape[1]))
    for part in _parts(resamples):
        drawn = rng.integers(n_images, size=(len(part), n_images))
        cells = drawn + n_images * np.arange(len(part))[:, None]
        weights = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
        sums = (weights.astype(np.float64) @ columns).reshape(len(part), -1, queries.shape[1])
        scores = 100 * sums[:, :-1] / sums[:, -1:]
        draws = {
            of_runs: rng.integers(len(of_runs), size=(len(part), len(of_runs), 1))
            for of_runs in sorted(set(map(tuple, seeds)))
        }
        start = 0
        for variant, runs in enumerate(hits):
            own = scores[:, start : start + len(runs)]
            picked = np.take_along_axis(own, draws[tuple(seeds[variant])], axis=1)
            result[part, variant] = picked.mean(axis=1)
            start += len(runs)
    return result


def sign_flips(shares: Floats, flips: int, rng: np.random.Generator) -> Floats:
    """p-values of all pairs of variants by flipping signs of the differences, image by image.

    Were two variants the same, each image's difference could as well have the other sign. Two-sided
    p = (1 + how often a sum of flipped differences is as large) / (1 + flips), so that a test at
    any level is not too liberal: Phipson & Smyth (2010), Permutation p-values should never be zero.

    Args:
        shares: ``(V, n_images)``, what each image adds to the scores of V variants.
        flips: how many.
        rng: draws the signs.

    Returns:
        ``(V, V)``; 1 where two are equal on all images.
    """
    total = shares.sum(axis=1)
    observed = np.abs(total[:, None] - total)
    as_large = np.ones_like(observed)
    for part in _parts(flips):
        signs = rng.integers(2, size=(len(part), shares.shape[1])) * 2.0 - 1
        sums = signs @ shares.T
        flipped = np.abs(sums[:, :, None] - sums[:, None])
        as_large += (flipped >= observed - _ROUNDING).sum(axis=0)
    return as_large / (1 + flips)


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p of the queries that only one of two variants answers.

    2 · P(X ≤ min(wins, losses)) for X binomial of ``wins + losses`` draws at one half, at most 1.
    McNemar (1947), Psychometrika 12.
    """
    n = wins + losses
    ways, below = 1, 0  # in integers: at a thousand draws a float would be 0
    for k in range(min(wins, losses) + 1):
        below += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * below / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are: the chance of any error stays below the level.

    The i-th smallest of n becomes the largest of ``(n − j + 1) · p_j`` over j ≤ i, at most 1. Holm
    (1979), Scandinavian Journal of Statistics 6.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * factors).clip(max=1)
    return [float(p) for p in corrected[np.argsort(order, kind="stable")]]


def _ranks_by_id(
    runs: Sequence[Mapping[str, NDArray[Any]]], ids: Mapping[str, Integers]
) -> dict[str, Integers]:
    """``(S, n_queries)`` by way, in the order of ``ids``, which are sorted."""
    for way, of_way in ids.items():
        for run in runs:
            if not np.array_equal(np.sort(run[f"{way}_ids"]), of_way):
                raise InputError(f"runs to be compared ranked different queries ({way})")
    return {
        way: np.stack([run[f"{way}_ranks"][np.argsort(run[f"{way}_ids"])] for run in runs])
        for way in ids
    }


def _image_rows(
    ids: Mapping[str, Integers], texts_of_image: Mapping[int, Sequence[int]]
) -> dict[str, Integers]:
    """Each query's image, as its number among the images that ask."""
    image_of = {text: image for image, texts in texts_of_image.items() for text in texts}
    if lost := set(ids["t2i"].tolist()) - image_of.keys():
        raise InputError(f"text id {min(lost)} was ranked, but belongs to no image of the split")
    images = [image_of[text] for text in ids["t2i"].tolist()]
    return {"i2t": np.arange(len(ids["i2t"])), "t2i": np.searchsorted(ids["i2t"], images)}


def _share_answered(ranks: Ranks, metric: str) -> Floats:
    """``(n_queries,)``, the share of the runs that answer each query among the first K."""
    if metric == "rsum":
        return np.concatenate([_share_answered(ranks, f"{way}_R@1") for way in ranks])
    way, k = metric.split("_R@")
    return (ranks[way] <= int(k)).mean(axis=0)


def _parts(n: int) -> Iterator[NDArray[np.intp]]:
    """Numbers from 0 to before n, some at a time."""
    yield from np.split(np.arange(n), range(_AT_ONCE, n, _AT_ONCE))
