import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import DotProduct, Euclidean
from itm_lightning.types import Features


def pooled(*rows, dtype=torch.float32):
    return Features.from_pooled(torch.tensor(rows, dtype=dtype))


def test_dot_product_by_hand():
    scores = DotProduct()(pooled([3, 4], [0, 2]), pooled([1, 0], [-3, -4], [0, 0]))
    assert scores.tolist() == [[3, -25, 0], [0, -8, 0]]


def test_euclidean_by_hand():
    scores = Euclidean()(pooled([3, 4], [0, 0]), pooled([0, 0], [3, 4], [3, 0]))
    torch.testing.assert_close(scores, torch.tensor([[-5.0, 0, -4], [0, -5, -3]]))


def test_euclidean_equals_the_obvious_loop():
    images, texts = torch.randn(4, 9), torch.randn(5, 9)
    scores = Euclidean()(Features.from_pooled(images), Features.from_pooled(texts))
    loop = torch.tensor([[-float((v - t).norm()) for t in texts] for v in images])
    torch.testing.assert_close(scores, loop)


def test_euclidean_of_near_vectors_far_from_the_origin_keeps_its_digits():
    images = 1e3 + torch.randn(6, 32)
    texts = images + 1e-2 * torch.randn(6, 32)
    exact = torch.stack([(v - texts).double().norm(dim=1) for v in images])
    scores = Euclidean()(Features.from_pooled(images), Features.from_pooled(texts))
    torch.testing.assert_close(scores, -exact.float(), atol=0, rtol=1e-5)


def test_euclidean_pulls_towards_the_other_with_force_one_and_not_at_all_at_zero():
    v = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    scores = Euclidean()(Features.from_pooled(v), pooled([0, 0], [1, 1]))
    scores.diagonal().sum().backward()
    torch.testing.assert_close(v.grad, torch.tensor([[-0.6, -0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("head", [DotProduct(), Euclidean()])
def test_widths_that_differ_are_refused_with_both(head):
    with pytest.raises(InputError, match=r"have 2 and 3: give both encoders"):
        head(pooled([1, 2]), pooled([1, 2, 3]))
