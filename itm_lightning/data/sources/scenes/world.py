"""What a scene is made of, and how one is drawn: things that differ in look and stand apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from itm_lightning.data.source import Box

# No name begins with a vowel, so "a" stands before each and the captions of a minimal pair never
# differ in "a" and "an".
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
SIZES = {"small": (11, 13), "big": (20, 23)}  # shortest and longest side, in 64ths of the photo
CLASS_NAMES = (*COLOURS, *SHAPES)
COUNTS = (2, 3, 3, 4, 4)  # how many things: the more there are, the fewer scenes look alike
PLACING_TRIES = 30


class Size(NamedTuple):
    """A size as captions name it, and in pixels."""

    word: str
    side: int


@dataclass(frozen=True)
class Look:
    """How a thing looks, wherever it stands; within a scene no two share a colour or a shape."""

    size: Size
    colour: str
    shape: str


class Place(NamedTuple):
    """Where a thing stands: its centre, and the side of the square kept free for it, in pixels."""

    x: int
    y: int
    room: int


class Ground(NamedTuple):
    """The background: its colour, how much lighter it grows to the right and down, its grain."""

    colour: tuple[int, int, int]
    slope: tuple[int, int]
    grain: int


@dataclass(frozen=True)
class Scene:
    """Things on a ground: ``looks[i]`` stands at ``places[i]``. ``size`` is the photo's side."""

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


def draw_scene(dice: Random, size: int, swappable: bool = False) -> Scene:
    """Draws a scene of two to four things that do not touch.

    Args:
        dice: where all chance comes from.
        size: the photo's side in pixels.
        swappable: leave the first two things enough room to stand in each other's place.
    """
    while True:
        looks = _draw_looks(dice, size)
        rooms = [look.size.side for look in looks]
        if swappable:
            rooms[:2] = [max(rooms[:2])] * 2
        places = _draw_places(dice, rooms, size)
        if places is not None:
            return Scene(size, looks, places, _draw_ground(dice))


def draw_minimal_pair(dice: Random, scene: Scene) -> Scene:
    """The other scene of a minimal pair: the first two things swap places, colours or sizes."""
    first, second, *others = scene.looks
    swaps = [_swap_places, _swap_colours]
    if first.size.word != second.size.word:
        swaps.append(_swap_sizes)
    return replace(scene, looks=(*dice.choice(swaps)(first, second), *others))


def apart(one: int, other: int, *rooms: int, gap: int) -> bool:
    """Whether two rooms around these two coordinates leave at least ``gap`` pixels between."""
    return 2 * abs(one - other) > sum(rooms) + 2 * gap


def least_gap(size: int) -> int:
    """The least distance between two things, in pixels; with it a relation is clear to the eye."""
    return size * 3 // 64


def _draw_looks(dice: Random, size: int) -> tuple[Look, ...]:
    count = dice.choice(COUNTS)
    sizes = [_draw_size(dice, size) for _ in range(count)]
    colours = dice.sample(tuple(COLOURS), count)
    return tuple(map(Look, sizes, colours, dice.sample(SHAPES, count)))


def _draw_size(dice: Random, size: int) -> Size:
    word = dice.choice(tuple(SIZES))
    shortest, longest = SIZES[word]
    return Size(word, dice.randint(size * shortest // 64, size * longest // 64))


def _draw_places(dice: Random, rooms: Sequence[int], size: int) -> tuple[Place, ...] | None:
    """Places that leave the gap between all rooms, or ``None`` where luck would not have it."""
    places: list[Place] = []
    for room in rooms:
        for _ in range(PLACING_TRIES):
            place = Place(_draw_centre(dice, room, size), _draw_centre(dice, room, size), room)
            if all(_clear(place, other, least_gap(size)) for other in places):
                places.append(place)
                break
        else:
            return None
    return tuple(places)


def _draw_centre(dice: Random, room: int, size: int) -> int:
    return dice.randint(room // 2 + 1, size - room // 2 - 2)


def _clear(one: Place, other: Place, gap: int) -> bool:
    rooms = one.room, other.room
    return apart(one.x, other.x, *rooms, gap=gap) or apart(one.y, other.y, *rooms, gap=gap)


def _draw_ground(dice: Random) -> Ground:
    light = dice.randint(118, 146)
    red, green, blue = (light + dice.randint(-12, 12) for _ in range(3))
    slope = dice.randint(-16, 16), dice.randint(-16, 16)
    return Ground((red, green, blue), slope, dice.getrandbits(32))


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
