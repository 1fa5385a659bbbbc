"""The one error a user is meant to read, and the ranges in which numbers must lie."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

# Control characters move a terminal's cursor, retitle its window and more; the marks of
# right-to-left writing reorder what is shown; half a surrogate pair cannot be printed at all.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and the mend in one line.

    The command line prints the message alone, without a traceback, and exits with status 2. Names
    and captions of a dataset may be part of it: their control characters are shown as escapes.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    r"""The text in one line, with control characters as ``\x1b``: safe to write to a terminal."""
    return _UNPRINTABLE.sub(_escape, " ".join(text.split()))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def one_line(error: Exception, most: int = 300) -> str:
    """The error's message without line breaks, cut at ``most`` characters; its type if empty."""
    return printable(str(error))[:most] or type(error).__name__


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Within it, a file's contents are used: whatever they make others' code raise is its fault.

    Args:
        what: the file and what is wrong with it.

    Raises:
        InputError: ``what``, and the error's message.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({type(error).__name__}: {one_line(error)})") from error


@dataclass(frozen=True)
class Range:
    """What a number must be, in the annotation of a constructor's argument.

    Attributes:
        least: the smallest.
        most: the largest.
        is_open: ``least`` itself is too small.
    """

    least: float
    most: float = math.inf
    is_open: bool = False

    def __contains__(self, number: float) -> bool:
        return self.least <= number <= self.most and not (self.is_open and number == self.least)

    def what_to_be(self, number: float) -> str:
        """What a number that is out of range must be."""
        if number > self.most:
            return f"at most {self.most:,}"
        return f"above {self.least:,}" if self.is_open else f"at least {self.least:,}"


#: Of widths, layers and all else that a machine has to hold.
Size = Annotated[int, Range(1, 2**20)]
Natural = Annotated[int, Range(0, 2**20)]
MOST_WORKERS = 1024
Workers = Annotated[int, Range(0, MOST_WORKERS)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, is_open=True)]
NotNegative = Annotated[float, Range(0)]


def check_numbers(cls: type, arguments: Mapping[str, Any]) -> None:
    """Checks the numbers among a constructor's arguments, before anything is made of them.

    Every one must be finite, and lie in the :class:`Range` of its annotation if there is one. A
    :class:`~itm_lightning.part.Part` is checked whenever it is made.

    Args:
        cls: has the constructor.
        arguments: by name; others than numbers and collections of them are passed over.

    Raises:
        InputError: a number is out of range; the message names class and argument.
    """
    for name, value in arguments.items():
        if isinstance(value, str) and name in _ranges_of(cls):
            raise InputError(f"{cls.__name__}: {name} is {value!r}; it must be a number")
        for number in _numbers_in(value):
            if not math.isfinite(number):
                raise InputError(f"{cls.__name__}: {name} is {number}; it must be a finite number")
            allowed = _ranges_of(cls).get(name)
            if allowed is not None and number not in allowed:
                what = f"{name} is {number}; it must be {allowed.what_to_be(number)}"
                raise InputError(f"{cls.__name__}: {what}")


def _numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, list | tuple):
        yield from (number for each in value for number in _numbers_in(each))
    elif isinstance(value, dict):
        yield from (number for each in value.values() for number in _numbers_in(each))


@functools.cache
def _ranges_of(cls: type) -> dict[str, Range]:
    try:
        hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    except NameError:  # of a user's class, imported for type checkers alone
        return {}
    found = {name: _range_in(hint) for name, hint in hints.items()}
    return {name: allowed for name, allowed in found.items() if allowed is not None}


def _range_in(hint: Any) -> Range | None:
    """The range in an annotation, which may be of one of several types or of a list's items."""
    for part in get_args(hint):
        found = part if isinstance(part, Range) else _range_in(part)
        if found is not None:
            return found
    return None
