import itertools

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import OptimalTransport
from itm_lightning.similarity.optimal_transport import transport_plan
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.similarity.pairs import assert_scores_equal, at_degrees

IMAGES, TEXTS = made_up_features(4, 7, seed=1), made_up_features(5, 4, seed=2)


def shares(side):
    return side.mask / side.mask.sum(dim=1, keepdim=True)


def slow_plan(cosines, epsilon, iterations=1000):
    """Sinkhorn's algorithm as Cuturi writes it, in float64: one pair, all mass."""
    kernel = ((cosines.double() - 1) / epsilon).exp()
    u = torch.ones(len(kernel)).double()
    for _ in range(iterations):
        v = 1 / kernel.shape[1] / (kernel.T @ u)
        u = 1 / kernel.shape[0] / (kernel @ v)
    return u[:, None] * kernel * v


def one_pair(cosines, **arguments):
    regions, words = (torch.full((1, size), 1 / size) for size in cosines.shape)
    plan = transport_plan(cosines[None, :, None], regions, words, **arguments)
    return plan[0, :, 0]


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_equals_cuturis_loop(epsilon):
    def slow_score(regions, words):
        cosines = regions @ words.T
        return (slow_plan(cosines, epsilon) * cosines).sum()

    assert_scores_equal(OptimalTransport(epsilon=epsilon, iterations=300), slow_score)


@pytest.mark.parametrize("mass", [1.0, 0.7])
def test_sums_of_the_plan_are_the_shares(mass):
    plan = OptimalTransport(mass, epsilon=0.2, iterations=100).alignment(IMAGES, TEXTS)
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(dim=(2, 3)), torch.full((4, 5), mass), atol=1e-4, rtol=0)
    of_regions = plan.sum(dim=3) - shares(IMAGES)[:, None]
    of_words = plan.sum(dim=2) - shares(TEXTS)
    if mass == 1:
        assert of_regions.abs().max() < 1e-4
        assert of_words.abs().max() < 1e-4
    else:
        assert of_regions.max() < 1e-6
        assert of_words.max() < 1e-6
        assert of_regions.min() < -0.01  # some are left without a partner


def test_nearly_all_mass_is_nearly_the_full_plan():
    full, nearly = (OptimalTransport(mass, 0.2, 300)(IMAGES, TEXTS) for mass in (1.0, 0.9999))
    torch.testing.assert_close(full, nearly, atol=2e-3, rtol=0)


def test_finds_the_cheapest_assignment():
    """With as many words as regions the cheapest plan is a permutation: all of them are tried."""
    cosines = torch.rand(5, 5) * 2 - 1
    best = max(
        sum(cosines[i, j] for i, j in enumerate(order)) / 5
        for order in itertools.permutations(range(5))
    )
    plan = one_pair(cosines, mass=1.0, epsilon=0.025, iterations=2000)
    assert (plan * cosines).sum().item() == pytest.approx(best.item(), abs=5e-3)


def test_part_of_the_mass_goes_where_it_is_cheapest():
    images = Features.from_tokens(at_degrees(0, 10, 200))
    texts = Features.from_tokens(at_degrees(0, 10, 90))
    plan = OptimalTransport(mass=2 / 3, epsilon=0.025, iterations=500).alignment(images, texts)
    third, pairs = 1 / 3, plan[0, 0]
    assert pairs[2].abs().max() < 0.01  # the opposite region has no partner
    assert pairs[:, 2].abs().max() < 0.01
    assert pairs[:2].sum(dim=1).tolist() == pytest.approx([third, third], abs=0.01)
    assert OptimalTransport(mass=2 / 3, epsilon=0.025)(images, texts) > 0.64
    assert OptimalTransport(mass=1.0, epsilon=0.025)(images, texts) < 0.56  # 110 degrees and all


@pytest.mark.parametrize("mass", [1e-3, 0.5, 1 - 1e-6, 1.0])
@pytest.mark.parametrize("epsilon", [0.025, 0.1])
def test_the_worst_cosines_overflow_nowhere(mass, epsilon):
    worst = torch.randint(0, 2, (40, 6, 1, 5)) * 2.0 - 1
    worst = torch.cat([worst, torch.ones(1, 6, 1, 5), -torch.ones(1, 6, 1, 5)]).requires_grad_()
    regions, words = torch.full((42, 6), 1 / 6), torch.full((1, 5), 1 / 5)
    plan = transport_plan(worst, regions, words, mass, epsilon, iterations=50)
    (gradient,) = torch.autograd.grad((plan * worst).sum(), worst)
    assert plan.isfinite().all()
    assert gradient.isfinite().all()


def test_gradients_go_through_the_plan():
    cosines = (torch.rand(2, 3, 2, 4).double() * 2 - 1).requires_grad_()
    regions = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]).double()
    words = torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0]]).double()

    for mass in (1.0, 0.6):
        assert torch.autograd.gradcheck(
            lambda x, mass=mass: transport_plan(x, regions, words, mass, 0.2, 5), cosines
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mass": 0.0}, "mass must be above 0 and at most 1, not 0.0"),
        ({"mass": 1.1}, "mass must be above 0 and at most 1, not 1.1"),
        ({"epsilon": 0.01}, "epsilon must be at least 0.025, not 0.01"),
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=f"OptimalTransport: {message}"):
        OptimalTransport(**arguments)
