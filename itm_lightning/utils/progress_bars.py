"""Progress bars that also suit a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

_SECONDS_A_LINE = 60.0


class _Lines:
    """A file for tqdm: what it would draw over becomes lines of their own."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            sys.stderr.write(f"{text}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """tqdm's bar on a terminal and in a notebook; elsewhere, as in a log, a line a minute.

    Args:
        *args: as tqdm's.
        **kwargs: as tqdm's.
    """
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return tqdm(*args, **kwargs)
    in_log = {"file": _Lines(), "mininterval": _SECONDS_A_LINE, "delay": _SECONDS_A_LINE}
    return tqdm(*args, **{**kwargs, **in_log, "maxinterval": 2 * _SECONDS_A_LINE, "ncols": 78})
