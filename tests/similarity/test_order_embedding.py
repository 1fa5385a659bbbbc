import pytest
import torch

from itm_lightning.similarity import OrderEmbedding, unit_tokens
from itm_lightning.similarity.order_embedding import order_violations
from itm_lightning.types import Features
from tests.made_up import golden


def test_equals_the_published_implementation():
    data = golden("triplet")
    images, texts = (Features.from_pooled(data[side]) for side in ("images", "captions"))
    scores = OrderEmbedding()(images, texts)
    torch.testing.assert_close(scores, data["order_scores"], atol=1e-5, rtol=0)


def test_by_hand():
    images = Features.from_pooled(torch.tensor([[3.0, -4.0]]))  # (.6, .8) without signs
    texts = Features.from_pooled(torch.tensor([[-2.0, 0.0], [0.0, 5.0], [3.0, 4.0]]))
    torch.testing.assert_close(OrderEmbedding()(images, texts), torch.tensor([[-0.4, -0.2, 0.0]]))


def test_nothing_is_violated_where_the_specific_is_nowhere_smaller():
    general = torch.rand(20, 5)
    specific = general + torch.rand(20, 5) * torch.randint(0, 2, (20, 5))
    assert order_violations(specific, general).eq(0).all()
    assert (order_violations(general, specific + 0.1) > 0).all()


def test_violations_are_transitive():
    """Where a is below b and b below c, a is below c: what a partial order is."""
    a, b, c = torch.rand(3, 500, 3)
    below = (order_violations(a, b) == 0) & (order_violations(b, c) == 0)
    assert below.any()
    assert order_violations(a, c)[below].eq(0).all()


@pytest.mark.parametrize("size", [1, 70, 10**6])
def test_slices_change_neither_scores_nor_gradients(monkeypatch, size):
    images, texts = (torch.randn(n, 8, requires_grad=True) for n in (5, 4))
    v, t = (side.detach().requires_grad_() for side in (images, texts))
    monkeypatch.setattr(unit_tokens, "_SLICE_CPU_ELEMENTS", size)
    scores = OrderEmbedding()(Features.from_pooled(images), Features.from_pooled(texts))
    (scores * torch.arange(20.0).view(5, 4)).sum().backward()
    unit_v, unit_t = (torch.nn.functional.normalize(side, dim=-1).abs() for side in (v, t))
    whole = -order_violations(unit_v[:, None], unit_t)
    (whole * torch.arange(20.0).view(5, 4)).sum().backward()
    torch.testing.assert_close(scores, whole)
    torch.testing.assert_close((images.grad, texts.grad), (v.grad, t.grad))


def test_gradients_equal_finite_differences():
    images, texts = (torch.randn(n, 6).double().requires_grad_() for n in (3, 4))

    def scores(v, t):
        return OrderEmbedding()(Features.from_pooled(v), Features.from_pooled(t))

    assert torch.autograd.gradcheck(scores, (images, texts))
    same = torch.rand(2, 6, requires_grad=True)
    scores(same, same).diagonal().sum().backward()
    assert same.grad.eq(0).all()  # nothing is violated
