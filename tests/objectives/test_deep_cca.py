"""DeepCCA: its loss by the textbook's formula and the closed-form CCA's, and what it asks for."""

import numpy as np
import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.objectives import DeepCCA, LocalComparison
from itm_lightning.objectives.deep_cca import canonical_correlations
from itm_lightning.similarity import CCA, Cosine
from itm_lightning.types import Features
from tests.made_up import encoded_batch


def sides(n=40, p=4, q=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return tuple(
        common @ torch.randn(2, d, generator=generator, dtype=torch.float64)
        + torch.randn(n, d, generator=generator, dtype=torch.float64)
        for d in (p, q)
    )


def comparison(images, texts):
    return LocalComparison(
        Cosine(), encoded_batch(Features.from_pooled(images), Features.from_pooled(texts))
    )


def slow_correlations(images, texts, ridge):
    """By matrix square roots, as the paper writes it."""
    v, t = (side.numpy() - side.numpy().mean(axis=0) for side in (images, texts))
    n = len(v) - 1
    roots = []
    for side in (v, t):
        values, vectors = np.linalg.eigh(side.T @ side / n + ridge * np.eye(side.shape[1]))
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    return np.linalg.svd(roots[0] @ (v.T @ t / n) @ roots[1], compute_uv=False)


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_the_loss_is_the_papers(ridge):
    images, texts = sides()
    expected = slow_correlations(images, texts, ridge)
    assert np.allclose(canonical_correlations(images, texts, ridge), expected)
    loss = DeepCCA(ridge).loss(comparison(images, texts))
    assert loss.item() == pytest.approx(-expected.sum())
    largest = DeepCCA(ridge, components=1).loss(comparison(images, texts))
    assert largest.item() == pytest.approx(-expected[0])


def test_correlations_are_those_of_the_closed_form():
    images, texts = sides()
    head = CCA(components=3)
    head.build(4, 3)
    head.solve(head.observe(Features.from_pooled(images), Features.from_pooled(texts)))
    torch.testing.assert_close(
        canonical_correlations(images, texts, 1e-9), head.correlations.data, atol=1e-6, rtol=0
    )


def test_the_gradient_is_exact_where_eigenvalues_are_equal():
    """The covariances are multiples of the identity: a root by eigenvalues would give NaN."""
    images = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    texts = images.roll(1, dims=1)[:, :3] + 0.3 * sides(8)[1]
    for leaves in ((images, texts), (images, images.clone())):
        leaves = [leaf.requires_grad_() for leaf in leaves]
        assert torch.autograd.gradcheck(
            lambda v, t: DeepCCA(0.1).loss(comparison(v, t)), leaves, fast_mode=True
        )


def test_any_linear_map_of_a_side_has_the_same_loss():
    images, texts = sides()
    mapped = images @ torch.randn(4, 4, dtype=torch.float64) + 5
    torch.testing.assert_close(
        DeepCCA(1e-9).loss(comparison(mapped, texts)),
        DeepCCA(1e-9).loss(comparison(images, texts)),
        atol=1e-5,
        rtol=0,
    )


def test_a_batch_of_too_few_pairs_is_warned_of_in_training():
    images, texts = sides(n=4)
    objective = DeepCCA()
    with pytest.warns(UserWarning, match=r"4 pairs in a batch correlate perfectly in 4 dim.*raise"):
        loss = objective.loss(comparison(images, texts))
    assert loss < -2.9  # of at most 3 correlations
    objective.eval().loss(comparison(images, texts))


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="ridge is 0;"):
        DeepCCA(ridge=0)
    with pytest.raises(InputError, match="components is 0"):
        DeepCCA(components=0)
