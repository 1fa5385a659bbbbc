from types import SimpleNamespace

import pytest
import torch
from torch import nn

from itm_lightning.distributed import SingleProcess
from itm_lightning.similarity import CCA, ClosedForm, PooledSimilarity
from itm_lightning.training.closed_form import ClosedFormFit, no_loss, prepare_solution
from tests.made_up import made_up_features

DIM = 4


class Means(ClosedForm, PooledSimilarity):
    """Keeps each side's mean."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.zeros(2, DIM))

    def observe(self, images, texts, labels=None):
        sums = torch.stack([self.pooled(side).double().sum(dim=0) for side in (images, texts)])
        return {"pairs": torch.tensor(float(len(images))), "sums": sums}

    def solve(self, sums):
        self.means.copy_(sums["sums"] / sums["pairs"])

    def score(self, images, texts):
        raise NotImplementedError


@pytest.fixture
def pairs():
    return made_up_features(7, 3, DIM, seed=1), made_up_features(7, 3, DIM, seed=2)


@torch.no_grad()
def test_batches_are_added_and_forgotten_once_solved(pairs):
    head = Means()
    fit = ClosedFormFit(head)
    for _ in range(2):  # the second fit knows nothing of the first
        for rows in (slice(0, 1), slice(1, 5), slice(5, 7)):
            fit.observe(*(side[rows] for side in pairs))
        head.means.zero_()
        fit.solve(SingleProcess())
        torch.testing.assert_close(head.means, torch.stack([s.pooled.mean(dim=0) for s in pairs]))


def test_only_the_head_keeps_a_gradient_which_is_zero():
    module = nn.ModuleDict({"text_projection": nn.Linear(2, 2), "similarity": CCA(components=2)})
    module["similarity"].build(2, 3)
    trainer = SimpleNamespace(fit_loop=SimpleNamespace(max_epochs=7))
    prepare_solution(module, module["similarity"], trainer, trains=False)
    assert (trainer.fit_loop.max_epochs, trainer.num_sanity_val_steps) == (1, 0)
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in module.named_parameters() if "similarity" in name}
    no_loss(module["similarity"]).backward()
    assert all(not parameter.grad.any() for parameter in module["similarity"].parameters())


class Rows(Means):
    """Keeps the largest of all rows, which no sum tells."""

    joined = ("rows",)

    def observe(self, images, texts, labels=None):
        return super().observe(images, texts) | {"rows": self.pooled(images)}

    def solve(self, sums):
        self.means[0] = sums["rows"].amax(dim=0)


@torch.no_grad()
def test_rows_are_joined_and_not_added(pairs):
    head = Rows()
    fit = ClosedFormFit(head)
    for _ in range(2):
        for rows in torch.arange(7).split(3):
            fit.observe(*(side[rows] for side in pairs))
        fit.solve(SingleProcess())
        torch.testing.assert_close(head.means[0], pairs[0].pooled.amax(dim=0))
