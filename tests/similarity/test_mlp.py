import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import Mlp, unit_tokens
from itm_lightning.types import Features
from tests.made_up import made_up_features


def slow_scores(head, images, texts):
    """Pair by pair, the network on the whole concatenation."""
    network = torch.nn.Sequential(head.first, torch.nn.ReLU(), head.second)
    rows = [
        [network(torch.cat([v, t, v * t, (v - t).abs()])).squeeze() for t in texts.pooled]
        for v in images.pooled
    ]
    return torch.stack([torch.stack(row) for row in rows])


@pytest.mark.parametrize("size", [1, 10**6])
def test_equals_the_network_on_the_concatenation(monkeypatch, size):
    monkeypatch.setattr(unit_tokens, "_SLICE_CPU_ELEMENTS", size)
    head = Mlp(8, hidden=5)
    images, texts = made_up_features(4, 3, seed=1), made_up_features(3, 3, seed=2)
    leaves = [side.pooled.requires_grad_() for side in (images, texts)]
    leaves += head.parameters()
    scores, slow = head(images, texts), slow_scores(head, images, texts)
    torch.testing.assert_close(scores, slow)
    gradients = [torch.autograd.grad(s.square().sum(), leaves) for s in (scores, slow)]
    torch.testing.assert_close(*gradients)


def test_under_autocast_both_passes_make_their_products_in_half_precision():
    head = Mlp(64)
    images, texts = made_up_features(9, 3, 64, seed=1), made_up_features(7, 3, 64, seed=2)
    grads = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled):
            scores = head(images, texts)
        assert scores.dtype == torch.float32
        grads.append(torch.autograd.grad(scores.sum(), head.first.weight)[0])
    assert not grads[0].equal(grads[1])
    assert (grads[0] - grads[1]).norm() < 0.02 * grads[0].norm()


def test_by_hand():
    head = Mlp(1, hidden=1)
    head.first.weight.data = torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
    head.first.bias.data.fill_(0.5)
    head.second.weight.data.fill_(2)
    images, texts = (Features.from_pooled(torch.tensor(x)) for x in ([[2.0]], [[3.0], [-4.0]]))
    # 2 + 30 + 600 + 1000 + .5, doubled; 2 - 40 - 800 + 6000 + .5, doubled
    assert head(images, texts).tolist() == [[3265, 10325]]


def test_features_of_another_width_are_refused_with_the_mend():
    features = made_up_features(2, 3)
    with pytest.raises(InputError, match=r"Mlp\(dim=5\) got vectors of width 8: set dim to 8"):
        Mlp(5)(features, features)
