"""The command line; :func:`main` is the console script, and answers at once where it can."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import version

#: Every command, and what it does.
COMMANDS = {
    "fit": "trains a model, and scores its best checkpoint",
    "validate": "scores a checkpoint on the validation split",
    "test": "scores a checkpoint, or several as an ensemble, on the test split",
    "predict": "retrieves for the images and texts of a split, or your own",
    "extract": "runs an image encoder over a dataset once, for later fits",
    "compare": "trains several similarity measures alike, and reports how they differ",
    "explain": "shows what each word and place adds to a score",
    "convert": "reads published checkpoints of SCAN, SGRAF, VSE∞ and CHAN",
    "list": "lists the parts there are, with their arguments",
}
_HELP = """\
usage: lightning COMMAND --config CONFIG [--KEY VALUE ...]

Image-text matching you can take apart: train, score, compare and explain from YAML.

{commands}

lightning COMMAND --help    its flags, which are the keys of its YAML
lightning list KIND NAME    a part's arguments
lightning --version         the version
--trust MODULE              of any command: a checkpoint may build the parts of MODULE
"""
_INTERRUPTED = 130  # the status that a shell gives a process ended by Ctrl-C


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command; exits with status 2 and one line where the input is at fault."""
    args = list(sys.argv[1:] if args is None else args)
    if args in (["--help"], ["-h"]):
        lines = "\n".join(f"{command:10}{does}" for command, does in COMMANDS.items())
        print(_HELP.format(commands=textwrap.indent(lines, "  ")), end="")
        return
    if args == ["--version"]:
        print(f"itm-lightning {version('itm-lightning')}")
        return
    try:
        from itm_lightning.cli.console import run  # imports torch, which takes seconds

        run(args)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(_INTERRUPTED)
