"""Times things side by side: in turns, in one run, so that what else the machine does hits all.

A GPU is waited for before the clock is read.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from tqdm.auto import tqdm

_RESET_PEAK = Path("/proc/self/clear_refs")  # Linux: "5" sets the peak to what is in use now
_STATUS = Path("/proc/self/status")

T = TypeVar("T")


@dataclass(frozen=True)
class Seconds:
    """One contestant's times, turn by turn."""

    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.turns)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.turns)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.turns)

    def __truediv__(self, other: Seconds) -> Seconds:
        """How many times as long as the other it took, turn by turn."""
        return Seconds(tuple(a / b for a, b in zip(self.turns, other.turns, strict=True)))


def in_turns(
    contestants: Mapping[str, Callable[[], object]], repeats: int, title: str = ""
) -> dict[str, Seconds]:
    """Runs every contestant ``repeats`` times, one after the other, after a turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in tqdm(range(repeats + 1), desc=title, leave=False):
        for name, run in contestants.items():
            seconds, _ = _timed(run)
            if turn:
                times[name].append(seconds)
    return {name: Seconds(tuple(turns)) for name, turns in times.items()}


def first_and_again(run: Callable[[], T], repeats: int = 1) -> tuple[dict[str, float], T]:
    """Seconds of the first run, which may compile and fetch, and the median of those after it.

    Returns:
        ``first s`` and ``s``, and of a GPU ``peak GB``, all that was allocated while it ran; and
        what the last run returned.
    """
    on_gpu = torch.cuda.is_initialized()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    first, result = _timed(run)
    again = []
    for _ in range(repeats):
        seconds, result = _timed(run)
        again.append(seconds)
    figures = {"first s": first, "s": statistics.median(again)}
    if on_gpu:
        figures["peak GB"] = torch.cuda.max_memory_allocated() / 2**30
    return figures, result


def _timed(run: Callable[[], T]) -> tuple[float, T]:
    _finish_gpu()
    start = time.perf_counter()
    result = run()
    _finish_gpu()
    return time.perf_counter() - start, result


def _finish_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_megabytes(run: Callable[[], object]) -> float:
    """What ``run`` needs on top of what the process held before; NaN where the system hides it."""
    if not _RESET_PEAK.exists():
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs freed would hide what this one takes
    _RESET_PEAK.write_text("5")
    before = _kilobytes("VmRSS")
    run()
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(field: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))
