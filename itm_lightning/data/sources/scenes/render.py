"""Pixels of a scene, in integer arithmetic only: the same image on every machine."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from itm_lightning.data.sources.scenes.world import COLOURS, Ground, Scene

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SUBPIXELS = 4  # a pixel's edge is this many samples long: 16 samples a pixel smooth the outlines
GRAIN = 7  # noise is within plus and minus this many grey levels


def render(scene: Scene) -> NDArray[np.uint8]:
    """The scene's image, ``(size, size, 3)`` uint8 RGB."""
    canvas = _ground(scene.ground, scene.size)
    for look, box in zip(scene.looks, scene.boxes(), strict=True):
        region = canvas[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
        _paint(region, COLOURS[look.colour], coverage(look.shape, look.size.side))
    canvas += _noise(scene.ground.grain, scene.size)[..., None]
    return canvas.clip(0, 255).astype(np.uint8)


@functools.cache
def coverage(shape: str, side: int) -> Ints:
    """How many samples of each pixel the shape covers: ``(side, side)``, 0 … ``SUBPIXELS``².

    The shape touches each of the four sides of its square.
    """
    reach = SUBPIXELS * side
    # odd numbers: samples are in the middle of their cells, none on an edge of the grid
    ticks = np.arange(1 - reach, reach, 2, dtype=np.int64)
    inside = INSIDE[shape](ticks[None, :], ticks[:, None], reach)
    inside = np.broadcast_to(inside, (reach, reach))
    return inside.reshape(side, SUBPIXELS, side, SUBPIXELS).sum(axis=(1, 3), dtype=np.int64)


def _paint(region: Ints, colour: tuple[int, int, int], covered: Ints) -> None:
    share, whole = covered[..., None], SUBPIXELS**2
    region[:] = (region * (whole - share) + np.array(colour) * share + whole // 2) // whole


def _ground(ground: Ground, size: int) -> Ints:
    ticks = np.arange(size, dtype=np.int64)
    right, down = ground.slope
    light = (right * ticks[None, :] + down * ticks[:, None]) // size
    return light[..., None] + np.array(ground.colour, dtype=np.int64)


def _noise(grain: int, size: int) -> Ints:
    """Integer noise ``(size, size)``: each pixel's number, scrambled by multiply and shift."""
    bits = np.arange(size * size, dtype=np.uint32) + np.uint32(grain)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits ^= bits >> np.uint32(shift)
        bits *= np.uint32(factor)
    bits ^= bits >> np.uint32(16)
    return bits.reshape(size, size).astype(np.int64) % (2 * GRAIN + 1) - GRAIN


# Each function gives the samples inside a shape: x to the right, y down, both within ± reach.


def _circle(x: Ints, y: Ints, reach: int) -> Bools:
    return x**2 + y**2 <= reach**2


def _square(x: Ints, y: Ints, reach: int) -> Bools:
    return abs(x) + 0 * y <= reach


def _triangle(x: Ints, y: Ints, reach: int) -> Bools:
    return 2 * abs(x) <= y + reach


def _ring(x: Ints, y: Ints, reach: int) -> Bools:
    return _circle(x, y, reach) & (10 * (x**2 + y**2) >= 3 * reach**2)


def _cross(x: Ints, y: Ints, reach: int) -> Bools:
    return (10 * abs(x) <= 3 * reach) | (10 * abs(y) <= 3 * reach)


def _diamond(x: Ints, y: Ints, reach: int) -> Bools:
    return abs(x) + abs(y) <= reach


def _star(x: Ints, y: Ints, reach: int) -> Bools:
    """A pentagram: the points inside at least four of its five lines."""
    # In thousandths: the pentagram of radius 1 is 2 sin 72° wide and 1 + cos 36° high, so stretch
    # the square to that; its lines are cos 72° from the centre, their normals 72° apart.
    across, down = 951 * x, 905 * y - 95 * reach
    normals = ((0, -1000), (951, -309), (588, 809), (-588, 809), (-951, -309))
    within = [across * i + down * j <= 309 * 1000 * reach for i, j in normals]
    return np.sum(within, axis=0) >= 4


INSIDE: dict[str, Callable[[Ints, Ints, int], Bools]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "diamond": _diamond,
}
