"""CCA against a dense eigen-solution, in float64, also where covariances lack rank."""

import numpy as np
import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import CCA
from itm_lightning.types import Features
from tests.conftest import REPO

WIKIPEDIA = REPO.parent / "shared" / "wikipedia" / "wikipedia.npz"


def features(values):
    return Features.from_pooled(torch.as_tensor(values))


def solved(images, texts, **kwargs):
    head = CCA(**kwargs)
    head.build(images.shape[1], texts.shape[1])
    head.solve(head.observe(features(images), features(texts)))
    return head


def correlated(n, p, q, seed=0):
    """Two views of three common causes, whose means are far from 0."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(n, 3))
    images = causes @ random.normal(size=(3, p)) + random.normal(size=(n, p)) + 5
    texts = causes @ random.normal(size=(3, q)) + random.normal(size=(n, q)) - 3
    return images, texts


def deficient(n, p, q):
    """Rows that sum to 1 on one side, a column twice on the other: neither covariance has rank."""
    images, texts = correlated(n, p, q)
    images = np.exp(images - images.max(axis=1, keepdims=True))
    return images / images.sum(axis=1, keepdims=True), np.hstack([texts, texts[:, :1]])


def dense(images, texts, ridge):
    """Squared correlations, as eigenvalues of Σ_v⁺ Σ_vt Σ_t⁺ Σ_tv (Hotelling 1936)."""
    v, t = images - images.mean(axis=0), texts - texts.mean(axis=0)
    covariances = []
    for side in (v, t):
        covariance = side.T @ side / len(side)
        covariances.append(
            covariance + ridge * np.diag(covariance).mean() * np.eye(len(covariance))
        )
    cross = v.T @ t / len(v)
    inverses = [np.linalg.pinv(c, rcond=1e-10, hermitian=True) for c in covariances]
    values = np.linalg.eigvals(inverses[0] @ cross @ inverses[1] @ cross.T).real
    return np.sort(values)[::-1], covariances, cross


VIEWS = {
    "full rank": correlated(200, 7, 5),
    "more texts' numbers than images'": correlated(200, 4, 9),
    "deficient": deficient(200, 6, 5),
    "fewer rows than numbers": correlated(6, 9, 8),
}


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("views", VIEWS)
def test_equals_a_dense_eigen_solution(views, ridge):
    images, texts = VIEWS[views]
    k = 4
    head = solved(images, texts, components=k, ridge=ridge)
    squares, covariances, cross = dense(images, texts, ridge)
    np.testing.assert_allclose(head.correlations.detach() ** 2, squares[:k], atol=1e-6)
    a, b = (side.detach().numpy() for side in (head.image_weight, head.text_weight))
    np.testing.assert_allclose(a.T @ covariances[0] @ a, np.eye(k), atol=1e-6)
    np.testing.assert_allclose(b.T @ covariances[1] @ b, np.eye(k), atol=1e-6)
    np.testing.assert_allclose(a.T @ cross @ b, np.diag(head.correlations.detach()), atol=1e-6)


@pytest.mark.parametrize("power", [0.0, 1.0, 4.0])
def test_the_score_is_the_cosine_of_weighted_components(power):
    images, texts = correlated(50, 6, 5)
    head = solved(images, texts, components=3, power=power)
    a, b, d = (x.detach().numpy() for x in (head.image_weight, head.text_weight, head.correlations))
    left = (images - images.mean(axis=0)) @ a * d**power
    right = (texts - texts.mean(axis=0)) @ b * d**power
    lengths = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)
    scores = head(features(images), features(texts)).detach()
    np.testing.assert_allclose(scores, left @ right.T / lengths, atol=1e-9)


def test_sums_of_batches_add_up():
    images, texts = correlated(50, 6, 5)
    parts = [
        CCA().observe(features(images[rows]), features(texts[rows]))
        for rows in (slice(0, 1), slice(1, 30), slice(30, None))
    ]
    head = CCA(components=4)
    head.build(6, 5)
    head.solve({name: sum(part[name] for part in parts) for name in parts[0]})
    whole = solved(images, texts, components=4)
    for name, value in whole.state_dict().items():
        sign = 1 if name.endswith(("mean", "correlations")) else None
        ours = head.state_dict()[name]
        expected, found = (value, ours) if sign else (value.abs(), ours.abs())
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_components_that_do_not_correlate_are_said_and_left_out():
    images, texts = deficient(200, 6, 3)
    with pytest.warns(UserWarning, match="CCA found 3 components that correlate, of 9"):
        head = solved(images, texts, components=9)
    assert (head.correlations[:3] > 0).all()
    assert not head.correlations[3:].any()
    assert not head.image_weight[:, 3:].any()
    with pytest.warns(UserWarning, match="CCA found 3"):
        fewer = solved(images, texts, components=9)
    torch.testing.assert_close(
        fewer(features(images), features(texts)),
        solved(images, texts, components=3)(features(images), features(texts)),
    )


def test_features_that_are_all_equal_are_refused():
    images, texts = correlated(20, 3, 4)
    with pytest.raises(InputError, match="CCA found nothing that correlates"):
        solved(np.ones_like(images), texts)


def test_what_is_not_solved_scores_nothing():
    head = CCA(components=2)
    head.build(4, 3)
    with pytest.raises(InputError, match="CCA is not solved yet: fit it"):
        head(features(np.ones((2, 4))), features(np.ones((2, 3))))


@pytest.mark.parametrize("wrong", [{"components": 0}, {"ridge": -0.1}, {"power": -1.0}], ids=str)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=f"CCA: .*{next(iter(wrong))}"):
        CCA(**wrong)


@pytest.mark.skipif(not WIKIPEDIA.is_file(), reason="needs ../shared/wikipedia")
@pytest.mark.parametrize(("k", "ridge", "power"), [(7, 0.0, 0.0), (6, 0.1, 1.0)])
def test_ranks_of_the_wikipedia_benchmark_are_those_of_plain_numpy(k, ridge, power):
    """Pairwise ranks of the 693 test pairs, by a script without torch (Rasiwasia et al. 2010)."""
    with np.load(WIKIPEDIA, allow_pickle=False) as file:
        data = {name: file[name].astype(float) for name in file.files if "categor" not in name}
    sides = []
    roots = []
    for side in ("image", "text"):
        train, test = data[f"{side}_train"], data[f"{side}_test"]
        centred = train - train.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(train))
        values = values.clip(0) + ridge * values.sum() / len(values)
        real = values > 1e-10 * values.max()
        roots.append(vectors[:, real] / np.sqrt(values[real]))
        sides.append((centred, test - train.mean(axis=0)))
    cross = roots[0].T @ sides[0][0].T @ sides[1][0] @ roots[1] / len(sides[0][0])
    u, d, vh = np.linalg.svd(cross)
    projected = [
        test @ root @ directions[:, :k] * d[:k] ** power
        for (_, test), root, directions in zip(sides, roots, (u, vh.T), strict=True)
    ]
    left, right = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in projected)
    head = solved(data["image_train"], data["text_train"], components=k, ridge=ridge, power=power)
    scores = head(features(data["image_test"]), features(data["text_test"])).detach().numpy()
    np.testing.assert_allclose(scores, left @ right.T, atol=1e-8)
    ours, plain = ((s >= s.diagonal()[:, None]).sum(axis=1) for s in (scores, left @ right.T))
    assert (ours != plain).mean() < 0.01  # scores equal to the last bits may swap
