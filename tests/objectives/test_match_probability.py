import pytest
import torch

from itm_lightning.objectives import MatchProbability
from tests.objectives.losses import IDS, log_sigmoid

SCORES = -torch.rand(4, 4, generator=torch.Generator().manual_seed(3)) * 2


def slow_loss(scores, ids, scale, shift, pseudo):
    n = len(scores)
    pairs = [(i, j) for i in range(n) for j in range(n) if i == j or ids[i] != ids[j]]
    logit = (scale * scores + shift).tolist()

    def mean(matches):
        return -sum(
            log_sigmoid(logit[i][j] if matches(i, j) else -logit[i][j]) for i, j in pairs
        ) / len(pairs)

    own = 2 * mean(lambda i, j: i == j)
    among_texts = mean(lambda i, j: logit[i][j] >= logit[i][i])
    among_images = mean(lambda i, j: logit[i][j] >= logit[j][j])
    return own + pseudo * (among_texts + among_images)


@pytest.mark.parametrize("ids", [IDS, torch.arange(4)])
@pytest.mark.parametrize("pseudo", [0.0, 0.1, 2.0])
def test_equals_the_obvious_loop(ids, pseudo):
    loss = MatchProbability(pseudo=pseudo)(SCORES, ids, ids)
    assert loss.item() == pytest.approx(slow_loss(SCORES, ids, 5, 5, pseudo), rel=1e-5)


def test_a_pseudo_positive_is_pushed_away_less():
    scores = torch.tensor([[-1.0, -0.5], [-3.0, -1.0]], requires_grad=True)
    MatchProbability(pseudo=0.0)(scores).backward()
    alone = scores.grad.clone()
    scores.grad = None
    MatchProbability(pseudo=0.1)(scores).backward()
    assert 0 < scores.grad[0, 1] < alone[0, 1]  # it scores above the photo's own: perhaps a match
    assert 0 < alone[1, 0] < scores.grad[1, 0]  # it does not


def test_learns_its_scale_and_shift():
    objective = MatchProbability()
    objective(SCORES).backward()
    assert all(parameter.grad.abs() > 0 for parameter in objective.parameters())


def test_gradients_are_those_of_the_formula():
    objective = MatchProbability().double()
    inputs = [SCORES.double().requires_grad_(), *objective.parameters()]
    assert torch.autograd.gradcheck(lambda scores, *_: objective(scores, IDS, IDS), inputs)
