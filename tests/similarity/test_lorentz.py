import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import Lorentz
from itm_lightning.types import Features


def lorentz(dim, curvature=1.0):
    """A head without scaling: vectors are tangent vectors."""
    head = Lorentz(dim, curvature)
    head.image_log_scale.data.zero_()
    head.text_log_scale.data.zero_()
    return head


def distances(head, left, right):
    return -head(Features.from_pooled(left), Features.from_pooled(right)).detach()


@pytest.mark.parametrize("curvature", [0.3, 1.0, 4.0])
def test_along_a_line_through_the_vertex_lengths_are_those_of_the_tangent(curvature):
    tangents = torch.tensor([[0.0, 0.0], [1.2, 1.6], [-0.3, -0.4]])  # at 0, 2 and -0.5
    expected = torch.tensor([[0, 2, 0.5], [2, 0, 2.5], [0.5, 2.5, 0]])
    measured = distances(lorentz(2, curvature), tangents, tangents)
    torch.testing.assert_close(measured, expected, atol=2e-6, rtol=1e-6)


def test_by_hand_across_a_right_angle():
    """Pythagoras in hyperbolic space: cosh c = cosh a · cosh b, times the root of the curvature."""
    left, right = torch.tensor([[1.5, 0.0]]), torch.tensor([[0.0, 0.5]])
    for c in (1.0, 0.25):
        expected = math.acosh(math.cosh(1.5 * c**0.5) * math.cosh(0.5 * c**0.5)) / c**0.5
        assert distances(lorentz(2, c), left, right).item() == pytest.approx(expected, rel=1e-6)


def test_distances_are_a_metric():
    points = torch.randn(12, 5) * torch.logspace(-2, 0.2, 12)[:, None]
    d = distances(lorentz(5), points, points).double()
    torch.testing.assert_close(d, d.T, atol=1e-5, rtol=1e-5)
    assert d.diagonal().abs().max() < 1e-5
    apart = d + torch.eye(12)
    assert (apart > 1e-3).all()
    detours = d[:, :, None] + d[None, :, :]  # from i over j to k
    assert (d[:, None, :] <= detours + 1e-5).all()


def test_space_grows_faster_than_euclids_and_flattens_with_the_curvature():
    left, right = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    curved, nearly_flat = (distances(lorentz(2, c), left, right).item() for c in (1.0, 1e-4))
    assert curved > 3.2
    assert nearly_flat == pytest.approx(math.sqrt(8), rel=1e-3)


def test_sides_have_their_own_scale_and_start_at_the_root_of_the_width():
    head = Lorentz(4)
    torch.testing.assert_close(head.image_log_scale.exp(), torch.tensor(0.5))
    head.text_log_scale.data.fill_(math.log(0.25))
    image, text = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[2.0, 0, 0, 0]])
    assert distances(head, image, text).item() == pytest.approx(0.5, rel=1e-6)  # |1 - 0.5|


def test_parameters_stay_within_their_bounds_and_still_learn_there():
    head = Lorentz(4, curvature=2.0)
    head.log_curvature.data.fill_(9)
    head.image_log_scale.data.fill_(9)
    features = Features.from_pooled(torch.randn(3, 4))
    head(features, features).sum().backward()
    torch.testing.assert_close(head.log_curvature.exp(), torch.tensor(20.0))
    assert head.image_log_scale == 0
    assert head.log_curvature.grad.abs() > 0
    assert head.image_log_scale.grad.abs() > 0


def test_what_it_lifts_is_what_it_compares():
    features = Features.from_pooled(torch.randn(3, 4))
    head = Lorentz(4)
    torch.testing.assert_close(
        head.score(*head.to_head_space(features, features)), head(features, features)
    )


def test_a_curvature_that_is_none_is_refused():
    with pytest.raises(InputError, match="curvature is 0; it must be above 0"):
        Lorentz(4, curvature=0)
