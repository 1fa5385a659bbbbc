import pytest
import torch

from itm_lightning.similarity.sgraf import vectors as module
from itm_lightning.similarity.sgraf.vectors import similarity_vectors

SHAPES = [(5, 4, 3), (5, 3, 6), (4, 6), (2, 6), (2,)]  # N=5 rows, T=4 queries, K=3, D=6, S=2


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]


@pytest.fixture(params=[1, 48, 2**19], ids=["row by row", "two rows at a time", "at once"])
def elements(request, monkeypatch):
    monkeypatch.setattr(module, "_CPU_ELEMENTS", request.param)


@pytest.mark.usefixtures("elements")
def test_equals_the_obvious_loop(inputs):
    weights, contexts, queries, projection, bias = inputs
    vectors = similarity_vectors(*inputs)
    for n in range(5):
        for t in range(4):
            attended = sum(weights[n, t, k] * contexts[n, k] for k in range(3))
            expected = projection @ (attended - queries[t]) ** 2 + bias
            torch.testing.assert_close(vectors[n, t], expected / expected.norm())


@pytest.mark.usefixtures("elements")
def test_gradients_equal_finite_differences(inputs):
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(similarity_vectors, inputs)


def test_by_hand():
    half = torch.full((1, 1, 2), 0.5)
    contexts = torch.tensor([[[2.0, 0.0], [4.0, 6.0]]])  # their mean is (3, 3)
    query, projection = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    vectors = similarity_vectors(half, contexts, query, projection, torch.tensor([-1.0, -5.0]))
    torch.testing.assert_close(vectors, torch.tensor([[[0.6, 0.8]]]))  # (4 - 1, 9 - 5) / 5


def test_equal_vectors_give_zeros_and_finite_gradients():
    inputs = [torch.ones(s, requires_grad=True) for s in [(1, 1, 1), (1, 1, 6), (1, 6), (2, 6)]]
    vectors = similarity_vectors(*inputs, torch.zeros(2))
    vectors.sum().backward()
    assert vectors.tolist() == [[[0.0, 0.0]]]
    assert all(tensor.grad.isfinite().all() for tensor in inputs)


def test_nothing_to_compare(inputs):
    weights, contexts, queries, projection, bias = inputs
    vectors = similarity_vectors(weights[:, :0], contexts, queries[:0], projection, bias)
    assert vectors.shape == (5, 0, 2)
