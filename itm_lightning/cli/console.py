"""Which command is called, and what is printed of its errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import override

from itm_lightning.cli.early_args import named_classes, named_modules, without_trust
from itm_lightning.cli.errors import BAD_INPUT_STATUS, input_error, print_bad_input
from itm_lightning.cli.runs import drop_empty_run_folder, environment_of_one_run
from itm_lightning.cli.stopping import requeue_stopped, stop_signals
from itm_lightning.cli.trainer import name_fsdp2
from itm_lightning.cli.warning_filters import filter_warnings
from itm_lightning.part import trusting
from itm_lightning.registry import KINDS, load_parts

#: Commands that use what has been trained, or tell what there is; each is a module's ``main``.
OTHER_COMMANDS = {
    "compare": "itm_lightning.cli.compare",
    "convert": "itm_lightning.cli.convert",
    "explain": "itm_lightning.cli.explain",
    "list": "itm_lightning.cli.list_parts",
}


def run(args: Sequence[str]) -> None:
    """Runs a command; exits with status 2 and one line where the input is at fault."""
    filter_warnings()
    name_fsdp2()
    with stop_signals(), environment_of_one_run():
        try:
            args, trusted = without_trust(args)
            own = _OwnModules([*trusted, *named_modules(args)])
            sys.meta_path.append(own)
            try:
                with trusting(trusted, named_classes(args)):
                    _call(args)
            finally:
                sys.meta_path.remove(own)
        except SIGTERMException:
            sys.exit(requeue_stopped())
        except KeyboardInterrupt:
            drop_empty_run_folder()
            raise
        except Exception as error:
            found = input_error(error)
            if found is None:
                raise
            drop_empty_run_folder()
            print_bad_input(found)
            sys.exit(BAD_INPUT_STATUS)


class _OwnModules(MetaPathFinder):
    """Finds the modules of the current folder that the user names, where no package has the name.

    The folder is on the path, last, only once one has been found: it may be a download, whose files
    would else be found for packages that are not installed, and whose ``*.dist-info`` for entry
    points.

    Args:
        names: of modules.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.partition(".")[0] for name in names}

    @override
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, [os.getcwd()])
        if spec is not None and "" not in sys.path:
            sys.path.append("")
        return spec


def _call(args: list[str]) -> None:
    for kind in KINDS:
        load_parts(kind)
    if args and args[0] in OTHER_COMMANDS:
        importlib.import_module(OTHER_COMMANDS[args[0]]).main(args[1:])
    else:
        importlib.import_module("itm_lightning.cli.command").ITMCLI(args).finish()
