"""The first step after a resume adds gradients up as any later one does."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from itm_lightning.distributed import rank
from itm_lightning.resume.progress import settle_buckets
from tests.distributed.processes import in_groups

WORLD = 3


def gradients(settle, **how):
    """Those of one step made twice, the first one right after the model was wrapped."""
    torch.manual_seed(0)
    # in the order of the layers' use, gradients come in another order than the reverse of theirs
    layers = nn.ModuleDict({name: nn.Linear(400, 400) for name in ("last", "first", "second")})

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers

        def forward(self, values):
            for name in ("first", "second", "last"):
                values = self.layers[name](values).tanh()
            return values

    model = DistributedDataParallel(Chain(), **how)
    if settle:
        settle_buckets(model)
        assert all(parameter.grad is None for parameter in model.parameters())
    values = torch.randn(8, 400, generator=torch.Generator().manual_seed(rank()))
    steps = []
    for _ in range(2):
        model.zero_grad()
        model(values).square().sum().backward()
        steps.append([parameter.grad.clone() for parameter in model.parameters()])
    return steps


def all_outcomes():
    return {
        "settled": gradients(settle=True),
        "as torch does it": gradients(settle=False),
        "never packed anew": gradients(settle=True, find_unused_parameters=True),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return in_groups(all_outcomes, (WORLD,), tmp_path_factory)[WORLD]


def same(steps):
    return all(one.equal(other) for one, other in zip(*steps, strict=True))


def test_every_step_adds_in_one_order(outcomes):
    for process in outcomes:
        assert same(process["settled"])
        assert same(process["never packed anew"])
        assert not same(process["as torch does it"])  # else there was nothing to settle


def test_nothing_but_the_last_bits_changes(outcomes):
    for process in outcomes:
        for settled, plain in zip(
            process["settled"][0], process["as torch does it"][0], strict=True
        ):
            torch.testing.assert_close(settled, plain)


def test_what_is_no_ddp_is_left_alone():
    settle_buckets(nn.Linear(2, 2))
