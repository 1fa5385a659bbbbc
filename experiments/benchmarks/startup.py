"""How long ``lightning --help`` takes, beside the imports that it cannot do without."""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from side_by_side import in_turns

BARE = "-c", "import torch, pytorch_lightning"
OURS = "-m", "itm_lightning", "--help"


def start(*arguments: str) -> None:
    """Runs Python with these arguments, in a process of its own."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Prints both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="turns, after one to warm up")
    repeats = parser.parse_args().repeats
    both = {"bare": partial(start, *BARE), "ours": partial(start, *OURS)}
    times = in_turns(both, repeats, "starting")
    bare, ours = times["bare"], times["ours"]
    ratio = ours / bare
    print(f"import torch, pytorch_lightning: {bare.median:.2f} s")
    print(f"lightning --help: {ours.median:.2f} s")
    print(f"ratio: {ratio.median:.2f} ({ratio.low:.2f} - {ratio.high:.2f})")


if __name__ == "__main__":
    main()
