"""The registry of parts: register a class, list a kind, get a class by name.

The key is the class name, the same word YAML uses. A package installed beside this one adds its
parts by an entry point in the group ``itm_lightning.<kind>``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

from itm_lightning.errors import InputError

KINDS = (
    "image_encoder",
    "text_encoder",
    "pooling",
    "projection",
    "similarity",
    "objective",
    "source",
    "protocol",
)

ClassT = TypeVar("ClassT", bound=type)
_parts: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}


def register(kind: str) -> Callable[[ClassT], ClassT]:
    """Class decorator that adds a part under its class name.

    Args:
        kind: one of :data:`KINDS`.

    Raises:
        ValueError: the kind is unknown, or the name is taken by another class.
    """
    _check_kind(kind)

    def add(part: ClassT) -> ClassT:
        taken = _parts[kind].get(part.__name__)
        if taken is not None and taken is not part:
            raise ValueError(
                f"{kind} {part.__name__!r} is registered twice: by {taken.__module__} "
                f"and by {part.__module__}; rename one of the classes"
            )
        _parts[kind][part.__name__] = part
        return part

    return add


def get(kind: str, name: str) -> type:
    """The class registered as ``name``.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    _check_kind(kind)
    load_entry_points(kind)
    if name not in _parts[kind]:
        raise InputError(unknown_part(kind, name))
    return _parts[kind][name]


def list_registered(kind: str) -> list[str]:
    """The names of all parts of a kind, sorted, those of installed packages included."""
    _check_kind(kind)
    load_entry_points(kind)
    return sorted(_parts[kind])


def load_entry_points(kind: str) -> None:
    """Imports what installed packages offer under ``itm_lightning.<kind>`` and registers it."""
    for entry_point in entry_points(group=f"itm_lightning.{kind}"):
        register(kind)(entry_point.load())


def unknown_part(kind: str, name: str) -> str:
    """The sentence that says there is no such part, guesses which was meant, and lists all."""
    names = list_registered(kind)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"there is no {kind} {name!r}{guess}; there are {', '.join(names)}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of part; the kinds are {', '.join(KINDS)}")
