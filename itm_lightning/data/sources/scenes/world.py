"""Scenes: two to four things that differ in their looks and do not touch, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from itm_lightning.data.source import Box

# No name begins with a vowel: every article is "a", so that the captions of a minimal pair do not
# differ in it.
COLOURS = {
    "red": (214, 34, 38),
    "green": (34, 160, 62),
    "blue": (38, 78, 222),
    "yellow": (246, 214, 38),
    "purple": (122, 34, 150),
    "pink": (252, 150, 200),
    "white": (250, 250, 250),
    "black": (16, 16, 18),
}
SHAPES = ("circle", "square", "triangle", "ring", "cross", "star", "diamond")
SIZES = {"small": (11, 13), "big": (20, 23)}  # shortest and longest side, in 64ths of the image's
CLASS_NAMES = (*COLOURS, *SHAPES)
COUNTS = (2, 3, 3, 4, 4)  # numbers of things: the more there are, the fewer scenes are similar
PLACING_TRIES = 30


class Size(NamedTuple):
    """A size in a caption's word, and in pixels."""

    word: str
    side: int


@dataclass(frozen=True)
class Look:
    """Size, colour and shape of a thing; no two things of a scene share a colour or a shape."""

    size: Size
    colour: str
    shape: str


class Place(NamedTuple):
    """A thing's centre, and the side of the square that is kept free for it, in pixels."""

    x: int
    y: int
    room: int


class Ground(NamedTuple):
    """The background: its colour, its increase in brightness to the right and down, its noise."""

    colour: tuple[int, int, int]
    slope: tuple[int, int]
    grain: int


@dataclass(frozen=True)
class Scene:
    """Things on a background, ``looks[i]`` at ``places[i]``; ``size`` is the image's side."""

    size: int
    looks: tuple[Look, ...]
    places: tuple[Place, ...]
    ground: Ground

    def boxes(self) -> tuple[Box, ...]:
        """The tight boxes, in the order of ``looks``."""
        return tuple(map(_box, self.looks, self.places))

    def labels(self) -> tuple[str, ...]:
        """The colours and shapes that occur, sorted."""
        return tuple(sorted({name for look in self.looks for name in (look.colour, look.shape)}))


def draw_scene(rng: Random, size: int, swappable: bool = False) -> Scene:
    """Draws a scene of two to four things that do not touch.

    Args:
        rng: draws everything.
        size: the image's side in pixels.
        swappable: leave the first two things enough room to swap places.
    """
    while True:
        looks = _draw_looks(rng, size)
        rooms = [look.size.side for look in looks]
        if swappable:
            rooms[:2] = [max(rooms[:2])] * 2
        places = _draw_places(rng, rooms, size)
        if places is not None:
            return Scene(size, looks, places, _draw_ground(rng))


def draw_minimal_pair(rng: Random, scene: Scene) -> Scene:
    """The other scene of a minimal pair: the first two things swap places, colours or sizes."""
    first, second, *others = scene.looks
    swaps = [_swap_places, _swap_colours]
    if first.size.word != second.size.word:
        swaps.append(_swap_sizes)
    return replace(scene, looks=(*rng.choice(swaps)(first, second), *others))


def apart(one: int, other: int, *rooms: int, gap: int) -> bool:
    """Whether two rooms around these two coordinates leave at least ``gap`` pixels between."""
    return 2 * abs(one - other) > sum(rooms) + 2 * gap


def least_gap(size: int) -> int:
    """The least distance between two things, in pixels; it makes relations clear to the eye."""
    return size * 3 // 64


def _draw_looks(rng: Random, size: int) -> tuple[Look, ...]:
    count = rng.choice(COUNTS)
    sizes = [_draw_size(rng, size) for _ in range(count)]
    colours = rng.sample(tuple(COLOURS), count)
    return tuple(map(Look, sizes, colours, rng.sample(SHAPES, count)))


def _draw_size(rng: Random, size: int) -> Size:
    word = rng.choice(tuple(SIZES))
    shortest, longest = SIZES[word]
    return Size(word, rng.randint(size * shortest // 64, size * longest // 64))


def _draw_places(rng: Random, rooms: Sequence[int], size: int) -> tuple[Place, ...] | None:
    """Places with the gap between all rooms; ``None`` where the tries did not find any."""
    places: list[Place] = []
    for room in rooms:
        for _ in range(PLACING_TRIES):
            place = Place(_draw_centre(rng, room, size), _draw_centre(rng, room, size), room)
            if all(_clear(place, other, least_gap(size)) for other in places):
                places.append(place)
                break
        else:
            return None
    return tuple(places)


def _draw_centre(rng: Random, room: int, size: int) -> int:
    return rng.randint(room // 2 + 1, size - room // 2 - 2)


def _clear(one: Place, other: Place, gap: int) -> bool:
    rooms = one.room, other.room
    return apart(one.x, other.x, *rooms, gap=gap) or apart(one.y, other.y, *rooms, gap=gap)


def _draw_ground(rng: Random) -> Ground:
    light = rng.randint(118, 146)
    red, green, blue = (light + rng.randint(-12, 12) for _ in range(3))
    slope = rng.randint(-16, 16), rng.randint(-16, 16)
    return Ground((red, green, blue), slope, rng.getrandbits(32))


def _swap_places(one: Look, other: Look) -> tuple[Look, Look]:
    return other, one


def _swap_colours(one: Look, other: Look) -> tuple[Look, Look]:
    return replace(one, colour=other.colour), replace(other, colour=one.colour)


def _swap_sizes(one: Look, other: Look) -> tuple[Look, Look]:
    return replace(one, size=other.size), replace(other, size=one.size)


def _box(look: Look, place: Place) -> Box:
    side = look.size.side
    left, top = place.x - side // 2, place.y - side // 2
    return Box(f"{look.size.word} {look.colour} {look.shape}", left, top, left + side, top + side)
