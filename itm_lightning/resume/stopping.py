"""Signals that stop a run, put off until it may be cut."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from pytorch_lightning.utilities.exceptions import SIGTERMException


class StopSignals:
    """Catches SIGTERM and Ctrl-C; the second time, Ctrl-C stops at once.

    Lightning's own handler of SIGTERM talks to the other processes in the midst of whatever these
    say to each other.

    Args:
        stop: is told by which exception the run is to end.
    """

    def __init__(self, stop: Callable[[BaseException], None]) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def catch(self) -> None:
        """From now on, signals are put off."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there may signals be handled
        handlers = {signal.SIGTERM: self._sigterm, signal.SIGINT: self._sigint}
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}

    def release(self) -> None:
        """Gives the signals back."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def _sigterm(self, *_: Any) -> None:
        self._stop(SIGTERMException())

    def _sigint(self, *_: Any) -> None:
        if os.getpid() != self._process:
            return  # a loader's process, forked from ours: its batches are waited for
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping where the run can go on from; Ctrl-C again stops at once", flush=True)
        self._stop(KeyboardInterrupt())
