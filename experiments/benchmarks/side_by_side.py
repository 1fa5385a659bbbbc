"""Times things side by side: in turns, in one run, so that what else the machine does hits all."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

_RESET_PEAK = Path("/proc/self/clear_refs")  # Linux: "5" sets the peak to what is in use now
_STATUS = Path("/proc/self/status")


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
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: Seconds(tuple(turns)) for name, turns in times.items()}


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
