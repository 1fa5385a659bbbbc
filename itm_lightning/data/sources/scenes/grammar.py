"""The grammar of the captions: templates that are true of a scene by where its things stand.

A template speaks of places only (``"a {0} left of the {1}"``) and is filled with what stands there.
So the two scenes of a minimal pair, whose places are the same, share their templates; and as a
template names each thing at most once, the two captions hold the same words in another order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from itm_lightning.data.sources.scenes.world import Look, Place, Scene, apart, least_gap

TEXTS = 5

SIZED = ({"small": "small ", "big": "big "}, {"small": "little ", "big": "large "})
UNSIZED = {"small": "", "big": ""}
NUMBERS = {2: "two", 3: "three", 4: "four"}
LEFT, RIGHT = ("left of", "to the left of"), ("right of", "to the right of")
ABOVE, BELOW = ("above", "over"), ("below", "under")
OPENINGS = ("", "", "there is ", "a photo of ", "a picture with ", "you can see ")
COUNTING = ("there are {} things: ", "{} things: ", "{} shapes on a plain background: ")
# How many things stand in each clause of a sentence; two or three of a clause are related.
CLAUSES = {2: ((2,),), 3: ((2, 1), (3,)), 4: ((2, 2), (3, 1), (2, 1, 1))}


@dataclass(frozen=True)
class Template:
    """A sentence with a slot for each thing, and how it words their sizes."""

    pattern: str
    sizes: Mapping[str, str]

    def fill(self, looks: Sequence[Look]) -> str:
        """The caption of the scene where these looks stand at the template's places."""
        names = (f"{self.sizes[look.size.word]}{look.colour} {look.shape}" for look in looks)
        return self.pattern.format(*names)


def draw_templates(dice: Random, scene: Scene, paired: bool = False) -> tuple[Template, ...]:
    """Draws five templates that make five different captions of the scene.

    Args:
        dice: where all chance comes from.
        scene: what the captions are to be true of.
        paired: have each template name the sizes and relate the first two things, so that it tells
            the scene from its twin, whichever of these was swapped.
    """
    kinds, sizes = (RELATING, SIZED) if paired else (KINDS, (*SIZED, UNSIZED))
    templates: dict[str, Template] = {}
    while len(templates) < TEXTS:
        told = _draw_told(dice, len(scene.places), paired)
        pattern = dice.choice(kinds)(dice, scene, told)
        if pattern is not None:
            template = Template(pattern, dice.choice(sizes))
            templates.setdefault(template.fill(scene.looks), template)
    return tuple(templates.values())


def _draw_told(dice: Random, total: int, paired: bool) -> list[int]:
    """Which things the caption names, in which order: all, or now and then all but one."""
    told = list(range(total))
    if paired:
        pair, others = told[:2], told[2:]
        dice.shuffle(pair)
        dice.shuffle(others)
        told = pair + others
    else:
        dice.shuffle(told)
    leave_out = total > 2 and dice.randrange(8) == 0
    return told[:-1] if leave_out else told


def _draw_list(dice: Random, scene: Scene, told: Sequence[int]) -> str:
    """``"a image of a {0}, as well as a {2} above the {1}"``."""
    clauses = [_draw_clause(dice, scene.places, run) for run in _draw_runs(dice, told)]
    return dice.choice(OPENINGS) + _joined(clauses, dice.choice((", and ", ", as well as ")))


def _draw_statement(dice: Random, scene: Scene, told: Sequence[int]) -> str:
    """``"a {2} sits above the {1}, while there is a {0}"``."""
    verb = dice.choice((" is", " sits", " lies"))
    clauses = [
        _draw_clause(dice, scene.places, run, verb) if len(run) > 1 else f"there is a {{{run[0]}}}"
        for run in _draw_runs(dice, told)
    ]
    return _joined(clauses, dice.choice((", and ", ", while ")))


def _draw_count(dice: Random, scene: Scene, told: Sequence[int]) -> str | None:
    """``"there are three things: a {0}, and a {2} above the {1}"``, where all are told."""
    if len(told) < len(scene.places):
        return None
    clauses = [_draw_clause(dice, scene.places, run) for run in _draw_runs(dice, told)]
    return dice.choice(COUNTING).format(NUMBERS[len(told)]) + _joined(clauses, ", and ")


def _draw_inventory(dice: Random, scene: Scene, told: Sequence[int]) -> str | None:
    """``"three things: a {1}, a {2} and a {0}"``, where all are told; no word of who is where."""
    if len(told) < len(scene.places):
        return None
    names = [f"a {{{thing}}}" for thing in told]
    return dice.choice(COUNTING).format(NUMBERS[len(told)]) + _joined(names, " and ")


def _draw_row(dice: Random, scene: Scene, told: Sequence[int]) -> str | None:
    """``"from left to right: a {0}, a {2} and a {1}"``, where that order is clear."""
    axis, direction = dice.choice(((0, "from left to right"), (1, "from top to bottom")))
    order = sorted(told, key=lambda thing: scene.places[thing][axis])
    if not _in_line([scene.places[thing] for thing in order], axis, least_gap(scene.size)):
        return None
    names = [f"a {{{thing}}}" for thing in order]
    if dice.randrange(2):
        return f"{direction}: {_joined(names, ' and ')}"
    return f"{', then '.join(names)}, {direction}"


RELATING = (_draw_list, _draw_statement, _draw_count, _draw_row)
KINDS = (*RELATING, _draw_inventory)


def _in_line(places: Sequence[Place], axis: int, gap: int) -> bool:
    neighbours = itertools.pairwise(places)
    return all(apart(a[axis], b[axis], a.room, b.room, gap=gap) for a, b in neighbours)


def _draw_runs(dice: Random, told: Sequence[int]) -> list[list[int]]:
    """Cuts the things into clauses; the first two stay side by side in one."""
    rest, runs = list(told), []
    for length in dice.choice(CLAUSES[len(told)]):
        runs.append(rest[:length])
        rest = rest[length:]
    dice.shuffle(runs)
    return runs


def _draw_clause(dice: Random, places: Sequence[Place], run: Sequence[int], verb: str = "") -> str:
    """``"a {0} left of the {1} that is above a {2}"``; with a verb, ``"a {0} is left of …"``."""
    clause, link = f"a {{{run[0]}}}", verb
    for one, other in itertools.pairwise(run):
        relation = dice.choice(_relation(places[one], places[other]))
        clause += f"{link} {relation} {dice.choice(('a', 'a', 'the'))} {{{other}}}"
        link = ", which is" if verb else " that is"
    return clause


def _relation(one: Place, other: Place) -> tuple[str, ...]:
    """How one stands to the other, along the axis on which they are further apart.

    Things that do not touch leave their gap along that axis, so the relation is clear.
    """
    right, down = one.x - other.x, one.y - other.y
    if abs(right) >= abs(down):
        return RIGHT if right > 0 else LEFT
    return BELOW if down > 0 else ABOVE


def _joined(clauses: Sequence[str], last: str) -> str:
    *others, final = clauses
    return ", ".join(others) + last + final if others else final
