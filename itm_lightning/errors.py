"""The one error a user is meant to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

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
