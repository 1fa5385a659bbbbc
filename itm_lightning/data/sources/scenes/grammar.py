"""The grammar of the captions: templates that are true of a scene by the places of its things.

A template is about places only (``"a {0} left of the {1}"``) and is filled with the things there.
The two scenes of a minimal pair have the same places and therefore share their templates; as a
template names each thing at most once, the two captions have the same words in another order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from string import Formatter

from itm_lightning.data.source import Mention
from itm_lightning.data.sources.scenes.world import (
    COLOURS,
    SHAPES,
    Look,
    Place,
    Scene,
    apart,
    least_gap,
)

TEXTS = 5

SIZED = ({"small": "small ", "big": "big "}, {"small": "little ", "big": "large "})
UNSIZED = {"small": "", "big": ""}
NUMBERS = {2: "two", 3: "three", 4: "four"}
LEFT, RIGHT = ("left of", "to the left of"), ("right of", "to the right of")
ABOVE, BELOW = ("above", "over"), ("below", "under")
OPENINGS = ("", "", "there is ", "a photo of ", "a picture with ", "you can see ")
COUNTING = ("there are {} things: ", "{} things: ", "{} shapes on a plain background: ")
DIRECTIONS = ("from left to right", "from top to bottom")
WORD_CLASSES = {  # of every word that speaks of things
    **dict.fromkeys(COLOURS, "colour"),
    **dict.fromkeys(SHAPES, "shape"),
    **dict.fromkeys(("small", "little", "big", "large"), "size"),
    **dict.fromkeys(("left", "right", "above", "over", "below", "under"), "relation"),
    **dict.fromkeys(("top", "bottom"), "relation"),
    **dict.fromkeys(NUMBERS.values(), "count"),
}
# How many things are in each clause of a sentence; two or three of a clause are related.
CLAUSES = {2: ((2,),), 3: ((2, 1), (3,)), 4: ((2, 2), (3, 1), (2, 1, 1))}


@dataclass(frozen=True)
class Template:
    """A sentence with a slot for each thing, and its words for their sizes."""

    pattern: str
    sizes: Mapping[str, str]

    def fill(self, looks: Sequence[Look]) -> str:
        """The caption of the scene that has these looks at the template's places."""
        return self.pattern.format(*map(self._name, looks))

    def mentions(self, scene: Scene) -> Iterator[Mention]:
        """The caption's words that speak of things, in its order.

        A word of a thing's name speaks of that thing, a relation of the two between whose names it
        stands; a number, and the order of a row, of all that are named.
        """
        pieces: list[tuple[str, Sequence[str]]] = []
        slots = [(words, slot or "") for words, slot, *_ in Formatter().parse(self.pattern)]
        before, named = "", [slot for _, slot in slots if slot]
        for words, slot in slots:
            pieces.append((words, (before, slot) if before and slot else named))
            if slot:
                pieces.append((self._name(scene.looks[int(slot)]), slot))
            before = slot
        boxes, start = scene.boxes(), 0
        for text, things in pieces:
            for word in re.finditer(r"\w+", text):
                if word[0] in WORD_CLASSES:
                    span = start + word.start(), start + word.end()
                    spoken_of = tuple(boxes[int(thing)] for thing in things)
                    yield Mention(*span, WORD_CLASSES[word[0]], spoken_of)
            start += len(text)

    def _name(self, look: Look) -> str:
        return f"{self.sizes[look.size.word]}{look.colour} {look.shape}"


def draw_templates(rng: Random, scene: Scene, paired: bool = False) -> tuple[Template, ...]:
    """Draws five templates that make five different captions of the scene.

    Args:
        rng: draws everything.
        scene: the captions are true of it.
        paired: let each template name the sizes and relate the first two things, so that it is not
            true of the other scene of a minimal pair, whatever was swapped.
    """
    kinds, sizes = (RELATING, SIZED) if paired else (KINDS, (*SIZED, UNSIZED))
    templates: dict[str, Template] = {}
    while len(templates) < TEXTS:
        told = _draw_told(rng, len(scene.places), paired)
        pattern = rng.choice(kinds)(rng, scene, told)
        if pattern is not None:
            template = Template(pattern, rng.choice(sizes))
            templates.setdefault(template.fill(scene.looks), template)
    return tuple(templates.values())


def _draw_told(rng: Random, total: int, paired: bool) -> list[int]:
    """The things that the caption names, in its order: all, or once in a while all but one."""
    told = list(range(total))
    if paired:
        pair, others = told[:2], told[2:]
        rng.shuffle(pair)
        rng.shuffle(others)
        told = pair + others
    else:
        rng.shuffle(told)
    leave_out = total > 2 and rng.randrange(8) == 0
    return told[:-1] if leave_out else told


def _draw_list(rng: Random, scene: Scene, told: Sequence[int]) -> str:
    """``"a photo of a {0}, as well as a {2} above the {1}"``."""
    clauses = [_draw_clause(rng, scene.places, run) for run in _draw_runs(rng, told)]
    return rng.choice(OPENINGS) + _joined(clauses, rng.choice((", and ", ", as well as ")))


def _draw_statement(rng: Random, scene: Scene, told: Sequence[int]) -> str:
    """``"a {2} sits above the {1}, while there is a {0}"``."""
    verb = rng.choice((" is", " sits", " lies"))
    clauses = [
        _draw_clause(rng, scene.places, run, verb) if len(run) > 1 else f"there is a {{{run[0]}}}"
        for run in _draw_runs(rng, told)
    ]
    return _joined(clauses, rng.choice((", and ", ", while ")))


def _draw_count(rng: Random, scene: Scene, told: Sequence[int]) -> str | None:
    """``"there are three things: a {0}, and a {2} above the {1}"``, where all things are named."""
    if len(told) < len(scene.places):
        return None
    clauses = [_draw_clause(rng, scene.places, run) for run in _draw_runs(rng, told)]
    return rng.choice(COUNTING).format(NUMBERS[len(told)]) + _joined(clauses, ", and ")


def _draw_inventory(rng: Random, scene: Scene, told: Sequence[int]) -> str | None:
    """``"three things: a {1}, a {2} and a {0}"``, where all things are named, and no place."""
    if len(told) < len(scene.places):
        return None
    names = [f"a {{{thing}}}" for thing in told]
    return rng.choice(COUNTING).format(NUMBERS[len(told)]) + _joined(names, " and ")


def _draw_row(rng: Random, scene: Scene, told: Sequence[int]) -> str | None:
    """``"from left to right: a {0}, a {2} and a {1}"``, where that order is clear."""
    axis, direction = rng.choice(tuple(enumerate(DIRECTIONS)))
    order = sorted(told, key=lambda thing: scene.places[thing][axis])
    if not in_line([scene.places[thing] for thing in order], axis, least_gap(scene.size)):
        return None
    names = [f"a {{{thing}}}" for thing in order]
    if rng.randrange(2):
        return f"{direction}: {_joined(names, ' and ')}"
    return f"{', then '.join(names)}, {direction}"


RELATING = (_draw_list, _draw_statement, _draw_count, _draw_row)
KINDS = (*RELATING, _draw_inventory)


def in_line(places: Sequence[Place], axis: int, gap: int) -> bool:
    """Whether each place has at least ``gap`` pixels to the next on this axis."""
    neighbours = itertools.pairwise(places)
    return all(apart(a[axis], b[axis], a.room, b.room, gap=gap) for a, b in neighbours)


def _draw_runs(rng: Random, told: Sequence[int]) -> list[list[int]]:
    """Divides the things into clauses; the first two stay next to each other in one."""
    rest, runs = list(told), []
    for length in rng.choice(CLAUSES[len(told)]):
        runs.append(rest[:length])
        rest = rest[length:]
    rng.shuffle(runs)
    return runs


def _draw_clause(rng: Random, places: Sequence[Place], run: Sequence[int], verb: str = "") -> str:
    """``"a {0} left of the {1} that is above a {2}"``; with a verb, ``"a {0} is left of …"``."""
    clause, link = f"a {{{run[0]}}}", verb
    for one, other in itertools.pairwise(run):
        words = rng.choice(relation(places[one], places[other]))
        clause += f"{link} {words} {rng.choice(('a', 'a', 'the'))} {{{other}}}"
        link = ", which is" if verb else " that is"
    return clause


def relation(one: Place, other: Place) -> tuple[str, ...]:
    """The words for one's place relative to the other, on the axis on which they are further apart.

    Things that do not touch have their gap on that axis, so that the relation is clear.
    """
    right, down = one.x - other.x, one.y - other.y
    if abs(right) >= abs(down):
        return RIGHT if right > 0 else LEFT
    return BELOW if down > 0 else ABOVE


def _joined(clauses: Sequence[str], last: str) -> str:
    *others, final = clauses
    return ", ".join(others) + last + final if others else final
