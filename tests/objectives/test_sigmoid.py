import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.objectives import Sigmoid
from tests.objectives.losses import IDS, log_sigmoid

SCORES = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


def test_starts_as_published():
    """SigLIP's algorithm 1: t' = log 10, b = -10, the sum over all pairs by the batch."""
    expected = 0.0
    for i in range(4):
        for j in range(4):
            sign = 1 if i == j else -1
            expected -= log_sigmoid(sign * (10 * float(SCORES[i, j]) - 10)) / 4
    assert Sigmoid()(SCORES).item() == pytest.approx(expected, rel=1e-6)


def test_another_text_of_the_image_is_neither_positive_nor_negative():
    expected = 0.0
    for i in range(4):
        for j in range(4):
            if i == j or IDS[i] != IDS[j]:
                sign = 1 if i == j else -1
                expected -= log_sigmoid(sign * (2 * float(SCORES[i, j]) + 0.5)) / 4
    loss = Sigmoid(scale=2, bias=0.5)(SCORES, IDS, IDS)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_learns_its_scale_and_bias():
    objective = Sigmoid()
    assert objective.log_scale.item() == pytest.approx(math.log(10))
    objective(SCORES).backward()
    assert all(parameter.grad.abs() > 0 for parameter in objective.parameters())


def test_scores_far_off_give_finite_gradients():
    scores = (SCORES * 1e4).requires_grad_()
    Sigmoid()(scores).backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("scale", [0, -1])
def test_a_scale_without_logarithm_is_refused(scale):
    with pytest.raises(InputError, match=f"scale is {scale}; it must be above 0"):
        Sigmoid(scale)


def test_gradients_are_those_of_the_formula():
    objective = Sigmoid().double()
    inputs = [SCORES.double().requires_grad_(), *objective.parameters()]
    assert torch.autograd.gradcheck(lambda scores, *_: objective(scores, IDS, IDS), inputs)
