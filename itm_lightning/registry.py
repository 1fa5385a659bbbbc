"""The registry of parts: register a class, list a kind, get a class by name.

The key is the class name, which YAML uses too. Another installed package adds its parts by entry
points in the group ``itm_lightning.<kind>``.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from itm_lightning.errors import InputError

#: What imports, and so registers, the parts of each kind.
_MODULES = {
    "image_encoder": "itm_lightning.encoders",
    "text_encoder": "itm_lightning.encoders",
    "pooling": "itm_lightning.pooling",
    "projection": "itm_lightning.encoders",
    "similarity": "itm_lightning.similarity",
    "objective": "itm_lightning.objectives",
    "source": "itm_lightning.data",
    "protocol": "itm_lightning.metrics",
    "hub_correction": "itm_lightning.similarity",
}
KINDS = tuple(_MODULES)

ClassT = TypeVar("ClassT", bound=type)
_parts: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}


def register(kind: str) -> Callable[[ClassT], ClassT]:
    """Class decorator that registers a part under its class name.

    Args:
        kind: one of :data:`KINDS`.

    Raises:
        ValueError: the kind is unknown, or another class of the kind has this name.
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
        InputError: there is none; the message lists the names that are registered.
    """
    _check_kind(kind)
    load_parts(kind)
    if name not in _parts[kind]:
        raise InputError(unknown_part(kind, name))
    return _parts[kind][name]


def list_registered(kind: str) -> list[str]:
    """The sorted names of all parts of a kind, including parts of installed packages."""
    _check_kind(kind)
    load_parts(kind)
    return sorted(_parts[kind])


def list_overriding(kind: str, attribute: str) -> list[str]:
    """The sorted names of the parts of a kind that define an attribute anew, which a base has."""
    parts = {name: get(kind, name) for name in list_registered(kind)}
    return [
        name
        for name, part in parts.items()
        if sum(attribute in vars(cls) for cls in part.__mro__) > 1
    ]


def load_parts(kind: str) -> None:
    """Imports all parts of a kind: ours, and the entry points of ``itm_lightning.<kind>``."""
    importlib.import_module(_MODULES[kind])
    for entry_point in _installed(tuple(sys.path)).select(group=f"itm_lightning.{kind}"):
        register(kind)(entry_point.load())


def unknown_part(kind: str, name: str) -> str:
    """A message for an unknown name: the closest name that is registered, and all of them."""
    names = list_registered(kind)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"there is no {kind} {name!r}{guess}; there are {', '.join(names)}"


@functools.cache  # it reads a file of every package
def _installed(path: tuple[str, ...]) -> Any:  # which differs between versions of Python
    return entry_points()


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of part; the kinds are {', '.join(KINDS)}")
