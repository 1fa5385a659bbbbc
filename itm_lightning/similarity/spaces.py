"""Spaces in which some heads compare: the hyperboloid of Lorentz, the distributions of Gaussian.

The hyperbolic geometry is that of the unit hyperboloid (the Lorentz model, curvature -1), after
Desai, Nickel, Rajpurohit, Johnson, Vedantam: "Hyperbolic Image-Text Representations" (MERU), ICML
2023, sections 2 and 3. The formulas there carry a curvature ``-c``; with ``x`` there and ``√c · x``
here, it drops out of all of them. Far from the origin a distance is a small difference of large
numbers, and is computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.types import Features, double


@dataclass(frozen=True)
class Hyperboloid(Features):
    """Points of the unit hyperboloid ``time² - ‖space‖² = 1``.

    A hyperboloid of curvature ``-c`` is this one, shrunk by ``√c``: angles are the same, and
    distances are ``√c`` times as long.

    Attributes:
        pooled: the points' space components ``(B, D)``.
        time: their time component ``(B,)``, float64.
    """

    time: Tensor


@dataclass(frozen=True)
class Gaussians(Features):
    """A normal distribution with independent dimensions for each image or text.

    Attributes:
        pooled: the means ``(B, D)``.
        log_variance: ``log σ² (B, D)``.
    """

    log_variance: Tensor


_EPS = 1e-8
_FARTHEST = math.asinh(2**15)  # MERU's: beyond it sinh would overflow in half precision


def exponential_map(tangent: Tensor) -> Hyperboloid:
    """Wraps the tangent space at the hyperboloid's vertex around it: ``sinh(‖x‖) x / ‖x‖``.

    Args:
        tangent: ``(B, D)`` float32 or float64; longer than 11.1, a vector keeps its direction only.
    """
    length = torch.linalg.vector_norm(tangent, dim=-1, keepdim=True).clamp(min=_EPS)
    space = length.clamp(max=_FARTHEST).sinh() / length * tangent
    time = (double(space).square().sum(dim=-1) + 1).sqrt()
    return Hyperboloid(None, None, space, time)


def half_aperture(points: Hyperboloid, min_radius: float) -> Tensor:
    """Half the opening ``asin(2K / ‖x‖) (B,)`` in radians of the cone that each point entails.

    Args:
        points: the cones' apices ``x``.
        min_radius: ``K``; a point within ``2K`` of the vertex entails its whole half space.
    """
    length = torch.linalg.vector_norm(_space(points), dim=-1)
    return (2 * min_radius / (length + _EPS)).clamp(max=1 - _EPS).asin()


def exterior_angle(apices: Hyperboloid, points: Hyperboloid) -> Tensor:
    """The angle between each point and the axis of its cone, ``π - ∠Oxy (B,)`` in radians.

    ``O`` is the vertex, ``x`` the apex and ``y`` the point: the angle at ``x`` between the ray
    from ``O`` that goes on outwards, and the way to ``y``.
    """
    space = _space(apices)
    inner = (space * _space(points)).sum(dim=-1) - apices.time * points.time
    along = points.time + inner * apices.time
    across = (inner.square() - 1).clamp(min=_EPS).sqrt()
    cosine = along / (torch.linalg.vector_norm(space, dim=-1) * across + _EPS)
    return cosine.clamp(-1 + _EPS, 1 - _EPS).acos()


def _space(points: Hyperboloid) -> Tensor:
    assert points.pooled is not None
    return double(points.pooled)
