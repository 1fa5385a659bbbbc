"""CFA, PLS and JGRHML against dense solutions on the rows themselves, in float64."""

import numpy as np
import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import CCA, CFA, JGRHML, PLS
from tests.conftest import REPO
from tests.similarity.test_cca import correlated, deficient, features

WIKIPEDIA = REPO.parent / "shared" / "wikipedia" / "wikipedia.npz"
CLASSES = np.arange(200) * 7 % 5  # of the pairs


def solved(head, images, texts, labels=None):
    """The head, from sums of three batches."""
    head.build(images.shape[1], texts.shape[1])
    cuts = [slice(0, 1), slice(1, 30), slice(30, None)]
    parts = [
        head.observe(
            features(images[rows]), features(texts[rows]), None if labels is None else labels[rows]
        )
        for rows in cuts
    ]
    head.solve({name: sum(part[name] for part in parts) for name in parts[0]})
    return head


def standardised(rows):
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def same_directions(found, expected):
    """Columns equal but for their sign."""
    found, expected = (x / np.linalg.norm(x, axis=0) for x in (found.detach().numpy(), expected))
    np.testing.assert_allclose(np.abs((found * expected).sum(axis=0)), 1, atol=1e-6)


@pytest.mark.parametrize("standardise", [True, False])
def test_cfa_is_the_singular_vectors_of_the_rows(standardise):
    images, texts = correlated(200, 7, 5)
    head = solved(CFA(4, standardise), images, texts)
    x, y = (standardised(r) if standardise else r - r.mean(axis=0) for r in (images, texts))
    u, values, vh = np.linalg.svd(x.T @ y / len(x), full_matrices=False)
    np.testing.assert_allclose(head.strengths.detach(), values[:4], rtol=1e-6)
    scales = [r.std(axis=0)[:, None] if standardise else 1 for r in (images, texts)]
    same_directions(head.image_weight, u[:, :4] / scales[0])
    same_directions(head.text_weight, vh.T[:, :4] / scales[1])
    # of all orthonormal pairs none is nearer
    best = np.linalg.norm(x @ u[:, :4] - y @ vh.T[:, :4])
    random = np.random.default_rng(0)
    for _ in range(20):
        a, b = (np.linalg.qr(random.normal(size=(n, 4)))[0] for n in (7, 5))
        assert np.linalg.norm(x @ a - y @ b) > best


def deflated(x, y, components):
    """Canonical partial least squares on rows, component by component: its scores of the rows."""
    scores = [], []
    for _ in range(components):
        u, _, vh = np.linalg.svd(x.T @ y)
        for rows, direction, kept in ((x, u[:, 0], scores[0]), (y, vh[0], scores[1])):
            t = rows @ direction
            kept.append(t)
            rows -= np.outer(t, t @ rows / (t @ t))
    return [np.stack(side, axis=1) for side in scores]


@pytest.mark.parametrize("standardise", [True, False])
def test_pls_deflates_both_sides(standardise):
    images, texts = correlated(200, 7, 5)
    head = solved(PLS(4, standardise), images, texts)
    x, y = (standardised(r) if standardise else r - r.mean(axis=0) for r in (images, texts))
    expected = deflated(x.copy(), y.copy(), 4)
    same_directions(torch.from_numpy(images - images.mean(axis=0)) @ head.image_weight, expected[0])
    same_directions(torch.from_numpy(texts - texts.mean(axis=0)) @ head.text_weight, expected[1])


def obvious_jgrhml(images, texts, classes, components, ridges, graph):
    """By the n × n Laplacian of the graph of pairs that share a class."""
    x, y = standardised(images), standardised(texts)
    laplacian = np.zeros((len(x), len(x)))
    for members in classes.T:
        joined = np.outer(members, members) & ~np.eye(len(x), dtype=bool)
        degrees = joined.sum(axis=1)
        inverse = np.divide(1, np.sqrt(degrees), where=degrees > 0, out=np.zeros(len(x)))
        laplacian += np.diag(degrees > 0) - inverse[:, None] * joined * inverse
    u, _, vh = np.linalg.svd(x.T @ y)
    p, q = u[:, :components], vh.T[:, :components]
    found = []
    for a, b, other, ridge in ((x, y, q, ridges[0]), (y, x, p, ridges[1])):
        inner = ridge * np.eye(a.shape[1]) + graph * a.T @ laplacian @ a + a.T @ a
        found.append(np.linalg.solve(inner, a.T @ b @ other))
    return found


@pytest.mark.parametrize("several", [False, True], ids=["one class", "several classes"])
def test_jgrhml_needs_no_graph_of_all_pairs(several):
    images, texts = correlated(200, 7, 5)
    classes = CLASSES[:, None] == np.arange(6)
    classes[3] = classes[:, 5] = False  # a pair without a class
    classes[4] = [0, 0, 0, 0, 0, 1]  # and a class with one pair
    if several:
        classes[:, 1] |= np.arange(200) % 3 == 0
    head = JGRHML(components=4, image_ridge=50.0, text_ridge=3.0, graph=2.0)
    solved(head, images, texts, torch.from_numpy(classes))
    p, q = obvious_jgrhml(images, texts, classes, 4, (50.0, 3.0), 2.0)
    left, right = standardised(images) @ p, standardised(texts) @ q
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    scores = head(features(images), features(texts)).detach().numpy()
    np.testing.assert_allclose(scores, left @ right.T, atol=1e-6)


@pytest.mark.parametrize("head", [CFA(9), PLS(9), PLS(9, standardise=False)], ids=repr)
def test_fewer_components_are_said_and_score_alike(head):
    images, texts = deficient(200, 6, 3)  # a text's last number is its first
    with pytest.warns(UserWarning, match="found 3 components that correlate, of 9"):
        solved(head, images, texts)
    assert not head.image_weight[:, 3:].any()
    assert head(features(images), features(texts)).isfinite().all()


def test_a_covariance_without_full_rank_is_said():
    images, texts = deficient(200, 6, 5)
    with pytest.warns(UserWarning, match="covariance of the images has rank 5 of 6"):
        solved(CCA(3), images, texts)


def test_a_number_that_never_varies_is_left_as_it_is():
    images, texts = correlated(200, 7, 5)
    with_constant = np.hstack([images, np.full((200, 1), 3.0)])
    expected = solved(CFA(4), images, texts)(features(images), features(texts))
    found = solved(CFA(4), with_constant, texts)(features(with_constant), features(texts))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("head", [CFA, PLS, JGRHML])
def test_numbers_out_of_range_and_no_solution_are_refused(head):
    with pytest.raises(InputError, match=f"{head.__name__}: components is 0"):
        head(components=0)
    made = head()
    made.build(4, 3)
    with pytest.raises(InputError, match=f"{head.__name__} is not solved yet"):
        made(features(np.ones((2, 4))), features(np.ones((2, 3))))
    with pytest.raises(InputError, match="JGRHML: image_ridge is 0"):
        JGRHML(image_ridge=0)
