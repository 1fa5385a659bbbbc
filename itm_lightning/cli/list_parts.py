"""``lightning list [kind] [name]``: the parts there are, and the arguments of each."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from docstring_parser import google

from itm_lightning.errors import InputError
from itm_lightning.registry import KINDS, get, list_registered, unknown_part

_USAGE = """usage: lightning list [kind] [name]

Without arguments, names every part in a line; of one kind or one part it shows the arguments, too:
  lightning list similarity
  lightning list similarity CrossAttention

kinds: """
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")  # :class:`~itm_lightning.similarity.Cosine`


def main(args: list[str]) -> None:
    """Prints parts, including those of installed packages.

    Raises:
        InputError: there is no such kind or part; the message lists those there are.
    """
    if {"-h", "--help"} & set(args):
        print(_USAGE + ", ".join(KINDS))
    elif not args:
        print("\n\n".join(_kind(kind) for kind in KINDS))
    else:
        print("\n\n".join(_part(kind, name) for kind, name in _named(args)))


def _named(args: list[str]) -> list[tuple[str, str]]:
    """Kind and name of the parts that a kind, a name, or a kind and a name stand for."""
    if len(args) > 2:
        raise InputError(f"lightning list takes a kind and a name; {args[2]!r} is one too many")
    first, *others = args
    if first in KINDS:
        names = list_registered(first)
        if others and others[0] not in names:
            raise InputError(unknown_part(first, others[0]))
        return [(first, name) for name in others or names]
    of_that_name = [(kind, first) for kind in KINDS if first in list_registered(kind)]
    if others or not of_that_name:
        what = "no kind of part" if others else "neither a kind nor a part"
        raise InputError(
            f"{first!r} is {what}; the kinds are {', '.join(KINDS)}, and lightning list names "
            "all parts"
        )
    return of_that_name


def _kind(kind: str) -> str:
    """All parts of a kind, a line each."""
    names = list_registered(kind)
    width = max(map(len, names))
    lines = (f"  {name:{width}}  {_summary(get(kind, name))}" for name in names)
    return "\n".join([kind, *lines])


def _part(kind: str, name: str) -> str:
    """One part with its arguments."""
    part = get(kind, name)
    return "\n".join([f"{kind} {name}: {_summary(part)}", *_arguments(part)])


def _arguments(part: type) -> Iterator[str]:
    """Lines for each argument: its type, default and description."""
    described = {
        param.arg_name: param.description or ""
        for cls in reversed(part.__mro__)
        for param in google.parse(cls.__doc__ or "").params
    }
    width = shutil.get_terminal_size((100, 24)).columns
    for name, parameter in inspect.signature(part).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        yield f"  {name}{_type_of(parameter)}"
        text = _plain(described.get(name, ""))
        yield from textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _type_of(parameter: inspect.Parameter) -> str:
    annotation: Any = parameter.annotation
    text = ""
    if annotation is not parameter.empty:
        is_plain_class = isinstance(annotation, type) and not hasattr(annotation, "__args__")
        text = f": {annotation.__name__ if is_plain_class else annotation}"
    return text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"


def _summary(part: type) -> str:
    return _plain((inspect.getdoc(part) or "").partition("\n")[0])


def _plain(text: str) -> str:
    """A docstring's text without its markup, in one line."""
    return " ".join(_ROLE.sub(r"\1", text).replace("``", "").split())
