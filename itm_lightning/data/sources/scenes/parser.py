"""The parser of the captions' grammar: whether a text is one of its sentences, and what it says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass

from itm_lightning.data.sources.scenes.grammar import (
    ABOVE,
    BELOW,
    CLAUSES,
    COUNTING,
    DIRECTIONS,
    LEFT,
    NUMBERS,
    OPENINGS,
    RIGHT,
    SIZED,
    in_line,
    relation,
)
from itm_lightning.data.sources.scenes.world import COLOURS, SHAPES, Look, Scene, least_gap


@dataclass(frozen=True)
class Thing:
    """A thing as a text names it; ``size`` is ``"small"``, ``"big"`` or, where unsaid, ``None``."""

    size: str | None
    colour: str
    shape: str

    def names(self, look: Look) -> bool:
        """Whether the look is what the text names."""
        return (self.colour, self.shape) == (look.colour, look.shape) and (
            self.size in (None, look.size.word)
        )


@dataclass(frozen=True)
class Meaning:
    """What a caption says of a scene.

    Attributes:
        things: what it names, in its order.
        relations: of some neighbours in that order: the number of the first, and the words of
            which one says where it is, relative to the next.
        count: how many things there are, where it says so.
        axis: 0 where the things are said to stand from left to right, 1 from top to bottom.
    """

    things: tuple[Thing, ...]
    relations: tuple[tuple[int, tuple[str, ...]], ...]
    count: int | None
    axis: int | None

    def is_true_of(self, scene: Scene) -> bool:
        """Whether all of it is so; relations and order are judged as captions are drawn."""
        found = [
            next((n for n, look in enumerate(scene.looks) if thing.names(look)), None)
            for thing in self.things
        ]
        numbers = [number for number in found if number is not None]
        if len(set(numbers)) < len(found) or self.count not in (None, len(scene.looks)):
            return False
        places = [scene.places[number] for number in numbers]
        if any(relation(places[n], places[n + 1]) != words for n, words in self.relations):
            return False
        if self.axis is None:
            return True
        ordered = sorted(places, key=lambda place: place[self.axis or 0])
        return places == ordered and in_line(places, self.axis, least_gap(scene.size))


def parse(text: str) -> Meaning | None:
    """What a caption says; ``None`` where the grammar has no such sentence.

    The grammar is that of :func:`~itm_lightning.data.sources.scenes.grammar.draw_templates`:
    clauses have the lengths that it draws, a number is that of the things named, and either all
    sizes are said, in one pair of words, or none.
    """
    named = list(_THING.finditer(text))
    sentence = _THING.sub("X", text)
    if not 2 <= len(named) <= max(NUMBERS):
        return None
    between = [text[one.end() : other.start()] for one, other in itertools.pairwise(named)]
    found = [(n, _RELATION.search(words)) for n, words in enumerate(between)]
    relations = tuple((n, _RELATIONS[match[0]]) for n, match in found if match)
    in_clauses = _clause_lengths(len(named), {n for n, _ in relations}) in CLAUSES[len(named)]
    counts = [number for number, word in NUMBERS.items() if f"{word} " in sentence]
    if (
        not (_OF_NAMES.fullmatch(sentence) or (in_clauses and _OF_CLAUSES.fullmatch(sentence)))
        or not set(counts) <= {len(named)}
        or not any({match["size"] for match in named} <= said for said in _SAID_TOGETHER)
    ):
        return None
    axes = [axis for axis, direction in enumerate(DIRECTIONS) if direction in sentence]
    things = (Thing(_SIZE_OF[match["size"]], match["colour"], match["shape"]) for match in named)
    count, axis = (each[0] if each else None for each in (counts, axes))
    return Meaning(tuple(things), relations, count, axis)


def _clause_lengths(things: int, related: set[int]) -> tuple[int, ...]:
    """How many things each clause names, longest first; a relation holds two together."""
    starts = [n for n in range(things) if n - 1 not in related]
    lengths = [end - start for start, end in itertools.pairwise([*starts, things])]
    return tuple(sorted(lengths, reverse=True))


def _one_of(words: Iterable[str]) -> str:
    # the longest first, so that "to the left of" is not found as "left of"
    return _any_of(*sorted(map(re.escape, words), key=len, reverse=True))


def _any_of(*patterns: str) -> str:
    return f"(?:{'|'.join(patterns)})"


def _joined(one: str, last: str) -> str:
    return f"{one}(?:(?:, {one})*{last}{one})?"


_SAID_TOGETHER: list[Set[str | None]] = [
    {None},
    *({word.strip() for word in said.values()} for said in SIZED),
]
_SIZE_OF = {None: None} | {word.strip(): size for said in SIZED for size, word in said.items()}
_RELATIONS = {word: words for words in (LEFT, RIGHT, ABOVE, BELOW) for word in words}
_RELATION = re.compile(_one_of(_RELATIONS))
_THING = re.compile(
    rf"\b(?:(?P<size>{_one_of(word for word in _SIZE_OF if word)}) )?"
    rf"(?P<colour>{_one_of(COLOURS)}) (?P<shape>{_one_of(SHAPES)})\b"
)
# The sentences, in which each thing is an X.
_RELATED = f"{_one_of(_RELATIONS)} (?:a|the) X"
_CLAUSE = f"a X(?: {_RELATED}(?: that is {_RELATED})?)?"
_STATED = "(?:there is a X|a X {0} {1}(?:, which is {1})?)"
_NUMBERED = _one_of(each.format(number) for each in COUNTING for number in NUMBERS.values())
_DIRECTION = _one_of(DIRECTIONS)
_OF_CLAUSES = re.compile(
    _any_of(
        *(_one_of(OPENINGS) + _joined(_CLAUSE, last) for last in (", and ", ", as well as ")),
        *(
            _joined(_STATED.format(verb, _RELATED), last)
            for verb in ("is", "sits", "lies")
            for last in (", and ", ", while ")
        ),
        _NUMBERED + _joined(_CLAUSE, ", and "),
    )
)
_OF_NAMES = re.compile(
    _any_of(
        f"{_NUMBERED}{_joined('a X', ' and ')}",
        f"{_DIRECTION}: {_joined('a X', ' and ')}",
        f"a X(?:, then a X)+, {_DIRECTION}",
    )
)
