"""Features in the space of a head that has one of its own, for objectives that learn there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from itm_lightning.types import Features


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
    """One normal distribution a photo or caption, of independent dimensions.

    Attributes:
        pooled: the means ``(B, D)``.
        log_variance: ``log σ² (B, D)``.
    """

    log_variance: Tensor
