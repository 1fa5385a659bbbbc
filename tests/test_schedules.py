import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.training.schedules import WarmupCosine


def rates(warmup, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    schedule = WarmupCosine(optimizer, warmup)
    schedule.plan(steps)
    seen = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        seen.append(schedule.get_last_lr()[0])
    return seen


def test_it_falls_along_half_a_cosine_to_zero():
    expected = [2.0 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(1, 9)]
    assert rates(warmup=0.0, steps=8) == pytest.approx(expected)


def test_it_warms_up_first():
    seen = rates(warmup=0.5, steps=10)
    assert seen[:5] == sorted(seen[:5])
    assert max(seen) == seen[4] == pytest.approx(2.0)
    assert seen[-1] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_share_outside_is_refused(warmup):
    with pytest.raises(InputError, match="warmup"):
        rates(warmup, steps=2)
