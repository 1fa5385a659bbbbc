"""How long ``lightning --help``, and ``lightning fit`` until its first step, take.

    python experiments/benchmarks/startup.py

Beside the imports that a fit cannot do without. The fit is the quickstart's: it draws its dataset,
and builds and checks all parts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from side_by_side import in_turns

QUICKSTART = Path(__file__).parents[1] / "quickstart.yaml"
LIGHTNING = "-m", "itm_lightning"
STARTS = {
    "import torch, pytorch_lightning": ("-c", "import torch, pytorch_lightning"),
    "lightning --help": (*LIGHTNING, "--help"),
    "lightning fit, before its first step": (
        *LIGHTNING,
        *("fit", "--config", str(QUICKSTART), "--trainer.max_steps", "0"),
    ),
}


def start(arguments: tuple[str, ...]) -> None:
    """Runs Python with these arguments, in a process and a folder of its own."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)


def main() -> None:
    """Prints the times, and their ratios to that of the imports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="turns, after one to warm up")
    repeats = parser.parse_args().repeats
    times = in_turns({k: partial(start, v) for k, v in STARTS.items()}, repeats, "starting")
    bare, *_ = times.values()
    for name, seconds in times.items():
        ratio = seconds / bare
        spread = f"{ratio.low:.2f} - {ratio.high:.2f}"
        print(f"{name}: {seconds.median:.2f} s, {ratio.median:.2f} ({spread}) of the imports")


if __name__ == "__main__":
    main()
