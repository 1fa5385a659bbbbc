"""Loss and every gradient of processes that share a batch: those of one process that has it all."""

from dataclasses import replace

import pytest
import torch

from itm_lightning import get, list_registered
from itm_lightning.distributed import SingleProcess, all_processes, rank, world_size
from itm_lightning.part import UsesLabels
from itm_lightning.similarity import ClosedForm
from itm_lightning.training.closed_form import ClosedFormFit
from tests.distributed.processes import in_groups
from tests.distributed.training import CACHED, EQUAL, SHARES, by_hand, scored, trained
from tests.made_up import made_up_features
from tests.training.test_rbm import PAIRS, started

STEPS = EQUAL | CACHED
#: By whole rows, and by blocks.
BY = ("InfoNCE, on tokens", "Sigmoid, on tokens")
#: Closed-form heads.
HEADS = {name: get("similarity", name) for name in list_registered("similarity")}
SOLVED = [name for name, head in HEADS.items() if issubclass(head, ClosedForm)]


def solved(name, world, number, processes):
    """Scores of a head that the processes solve together, each from its share of the pairs."""
    head = HEADS[name](components=3)
    head.build(8, 8)
    if isinstance(head, UsesLabels):
        head.learn_classes("abc")
    sides = made_up_features(50, 3, 8, 1), made_up_features(50, 3, 8, 2)
    labels = torch.eye(3).bool()[torch.arange(50) % 3]
    fit = ClosedFormFit(head)
    for rows in torch.arange(50).tensor_split(world)[number].split(7):
        fit.observe(*(side[rows] for side in sides), labels[rows])
    fit.solve(processes)
    return head(*sides).detach()


def pretrained(world, number):
    """Weights after Boltzmann machines; each process has a seed of its own, and repeats pairs."""
    pairs = torch.arange(-(-PAIRS // world) * world) % PAIRS
    return started(0, pairs[number::world].split(4), seed=3 + number).state_dict()


def all_outcomes():
    world = world_size()
    found = {name: trained(step, world, rank()) for name, step in STEPS.items()}
    found |= {name: solved(name, world, rank(), all_processes()) for name in SOLVED}
    found["pretrained"] = pretrained(world, rank())
    return found | {"scored": {name: scored(STEPS[name], world, rank()) for name in BY}}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What every process has after each step, by number of processes."""
    return in_groups(all_outcomes, (3, 2), tmp_path_factory)


def assert_equal(outcome, expected):
    assert outcome.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:  # unread by the head
            assert outcome[name] is None, name
            continue
        # many a gradient is 0 but for rounding: of what shifts all scores alike
        allowed = 1e-6 * value.abs().max() + 1e-13
        assert (outcome[name] - value).abs().max() <= allowed, name


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", EQUAL)
def test_loss_and_gradients_are_those_of_one_process(outcomes, world, name):
    expected = trained(EQUAL[name], 1, 0)
    assert any(v is not None and v.abs().max() > 0 for k, v in expected.items() if k != "loss")
    for process in outcomes[world]:
        assert_equal(process[name], expected)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", SOLVED)
def test_heads_in_closed_form_are_those_of_one_process(outcomes, world, name):
    expected = solved(name, 1, 0, SingleProcess())
    for process in outcomes[world]:
        torch.testing.assert_close(process[name], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("world", [2, 3])
def test_all_start_from_machines_that_one_process_would_train(outcomes, world):
    expected = pretrained(1, 0)
    for process in outcomes[world]:
        found = process["pretrained"]
        assert all(value.equal(found[name]) for name, value in expected.items())


@pytest.mark.parametrize("name", STEPS)
def test_one_process_learns_as_computed_by_hand(name):
    plain = replace(STEPS[name], replay=False)
    assert_equal(trained(STEPS[name], 1, 0), by_hand(plain, 1))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", CACHED)
def test_a_gradient_cache_changes_nothing_with_dropout_too(outcomes, world, name):
    plain = replace(CACHED[name], replay=False)
    for process in outcomes[world]:
        assert_equal(process[name], by_hand(plain, world))


@pytest.mark.parametrize("world", [2, 3])
def test_each_process_scores_its_own_images_once(outcomes, world):
    sizes = SHARES[world]
    for process, own in zip(outcomes[world], sizes, strict=True):
        rows, blocks = (process["scored"][name] for name in BY)
        assert rows == [(own, sum(sizes))]
        assert sorted(blocks) == sorted((own, other) for other in sizes)


def test_dropout_does_something_and_shares_differ_in_number():
    cached = next(iter(CACHED.values()))
    plain = replace(cached, replay=False)
    dry = by_hand(replace(plain, dropout=0.0), 3)["loss"]
    assert not torch.isclose(by_hand(plain, 3)["loss"], dry)
    assert len(set(SHARES[2])) == len(set(SHARES[3])) == 2
