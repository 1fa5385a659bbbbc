import math

import pytest
import torch

from itm_lightning.similarity.spaces import exponential_map, exterior_angle, half_aperture


def along(direction, *distances):
    """Points at these hyperbolic distances from the vertex, in that direction."""
    direction = torch.tensor(direction, dtype=torch.float64)
    return exponential_map(torch.tensor(distances, dtype=torch.float64)[:, None] * direction)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_points_lie_on_the_hyperboloid(scale):
    torch.manual_seed(0)
    points = exponential_map(torch.randn(20, 6) * scale)
    minkowski = points.time**2 - points.pooled.double().square().sum(-1)
    torch.testing.assert_close(minkowski, torch.ones(20).double(), atol=1e-6, rtol=0)


def test_the_exponential_map_by_hand():
    points = along([0.6, 0.8], 0.0, 2.0)
    expected = torch.tensor([[0, 0], [0.6 * math.sinh(2), 0.8 * math.sinh(2)]]).double()
    torch.testing.assert_close(points.pooled, expected)
    torch.testing.assert_close(points.time, torch.tensor([1.0, math.cosh(2)]).double())


def test_a_vector_too_long_keeps_its_direction():
    points = exponential_map(torch.tensor([[3e4, 4e4]]))
    torch.testing.assert_close(points.pooled, torch.tensor([[0.6, 0.8]]) * 2**15)


def test_apertures_by_hand():
    apices = along([1.0, 0.0], math.asinh(0.4), math.asinh(0.2), 0.0)
    expected = torch.tensor([math.pi / 6, math.pi / 2, math.pi / 2]).double()
    torch.testing.assert_close(half_aperture(apices, min_radius=0.1), expected, atol=5e-4, rtol=0)


def test_exterior_angles_by_hand():
    """Straight on is 0, straight back is π, and the vertex's triangle has less than π."""
    apex = along([1.0, 0.0], 1.0, 1.0)
    on_the_line = along([1.0, 0.0], 2.5, 0.3)
    angles = exterior_angle(apex, on_the_line)
    torch.testing.assert_close(angles, torch.tensor([0, math.pi]).double(), atol=2e-4, rtol=0)


def test_exterior_angles_solve_the_triangle():
    """The hyperbolic law of cosines of O, x, y, with the angle at O known."""
    a, b, at_origin = 0.8, 1.7, 0.9
    x = along([1.0, 0.0], a)
    y = along([math.cos(at_origin), math.sin(at_origin)], b)
    cosh_c = math.cosh(a) * math.cosh(b) - math.sinh(a) * math.sinh(b) * math.cos(at_origin)
    sinh_c = math.sqrt(cosh_c**2 - 1)
    at_x = math.acos((math.cosh(a) * cosh_c - math.cosh(b)) / (math.sinh(a) * sinh_c))
    assert exterior_angle(x, y).item() == pytest.approx(math.pi - at_x, abs=1e-6)
