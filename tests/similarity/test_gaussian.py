import math

import pytest
import torch

from itm_lightning.similarity import Gaussian
from itm_lightning.types import Features
from tests.made_up import made_up_features


def test_by_hand():
    head = Gaussian(2)
    for layer, variance in ((head.image_log_variance, 0.5), (head.text_log_variance, 0.25)):
        layer.weight.data.zero_()
        layer.bias.data.fill_(math.log(variance))
    images = Features.from_pooled(torch.tensor([[3.0, 4.0]]))
    texts = Features.from_pooled(torch.tensor([[0.0, 7.0], [-0.6, -0.8]]))
    # ‖(.6, .8) - (0, 1)‖² = .4 and 4; variances add 2 · (.5 + .25)
    torch.testing.assert_close(head(images, texts), torch.tensor([[-1.9, -5.5]]))


def test_equals_the_obvious_loop():
    head = Gaussian(8)
    sides = head.to_head_space(made_up_features(3, 4, seed=1), made_up_features(4, 4, seed=2))
    (v, log_v), (t, log_t) = ((side.pooled, side.log_variance) for side in sides)
    for i in range(3):
        for j in range(4):
            distance = ((v[i] - t[j]) ** 2).sum() + log_v[i].exp().sum() + log_t[j].exp().sum()
            score = head(made_up_features(3, 4, seed=1), made_up_features(4, 4, seed=2))[i, j]
            assert score.item() == pytest.approx(-distance.item(), rel=1e-5)


def test_is_the_mean_squared_distance_of_samples():
    head = Gaussian(4)
    features = Features.from_pooled(torch.randn(2, 4))
    with torch.no_grad():
        samples = [
            side.pooled + (side.log_variance / 2).exp() * torch.randn(200_000, 2, 4)
            for side in head.to_head_space(features, features)
        ]
        squares = (samples[0][:, :, None] - samples[1][:, None]).square().sum(-1).mean(0)
        torch.testing.assert_close(head(features, features), -squares, atol=0.02, rtol=0)


def test_starts_with_variances_as_large_as_the_mean():
    features = made_up_features(50, 1, dim=256)
    images, _ = Gaussian(256).to_head_space(features, features)
    total = images.log_variance.exp().sum(-1)
    assert 0.9 < total.mean() < 1.1
