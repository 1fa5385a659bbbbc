"""The console script: which command is called, and what is printed of its errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pytorch_lightning.utilities.exceptions import SIGTERMException

from itm_lightning.cli.early_args import named_classes, without_trust
from itm_lightning.cli.errors import BAD_INPUT_STATUS, input_error, print_bad_input
from itm_lightning.cli.runs import drop_empty_run_folder, environment_of_one_run
from itm_lightning.cli.stopping import requeue_stopped, stop_signals
from itm_lightning.cli.trainer import name_fsdp2
from itm_lightning.cli.warning_filters import filter_warnings
from itm_lightning.part import trusting
from itm_lightning.registry import KINDS, load_entry_points

#: Commands that use what has been trained, or tell what there is; each is a module's ``main``.
_OTHER_COMMANDS = {
    "compare": "itm_lightning.cli.compare",
    "convert": "itm_lightning.cli.convert",
    "explain": "itm_lightning.cli.explain",
    "list": "itm_lightning.cli.list_parts",
}
_INTERRUPTED = 130  # the status that a shell gives a process ended by Ctrl-C


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command; exits with status 2 and one line where the input is at fault."""
    if "" not in sys.path:
        sys.path.append("")  # so that YAML can name a class in the user's own file; it shadows none
    args = list(sys.argv[1:] if args is None else args)
    if args == ["--version"]:
        print(f"itm-lightning {version('itm-lightning')}")
        return
    filter_warnings()
    name_fsdp2()
    with stop_signals(), environment_of_one_run():
        try:
            args, trusted = without_trust(args)
            with trusting(trusted, named_classes(args)):
                _call(args)
        except SIGTERMException:
            sys.exit(requeue_stopped())
        except KeyboardInterrupt:
            drop_empty_run_folder()
            print("stopped", file=sys.stderr)
            sys.exit(_INTERRUPTED)
        except Exception as error:
            found = input_error(error)
            if found is None:
                raise
            drop_empty_run_folder()
            print_bad_input(found)
            sys.exit(BAD_INPUT_STATUS)


def _call(args: list[str]) -> None:
    for kind in KINDS:
        load_entry_points(kind)
    if args and args[0] in _OTHER_COMMANDS:
        importlib.import_module(_OTHER_COMMANDS[args[0]]).main(args[1:])
    else:
        importlib.import_module("itm_lightning.cli.command").ITMCLI(args).finish()
