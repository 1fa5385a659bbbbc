"""Which command is called, and what is printed of its errors and of others' warnings."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import override

from itm_lightning.cli.early_args import named_classes, named_modules, without_trust
from itm_lightning.cli.errors import BAD_INPUT_STATUS, input_error, print_bad_input
from itm_lightning.cli.runs import drop_empty_run_folder, environment_of_one_run
from itm_lightning.cli.stopping import requeue_stopped, stop_signals
from itm_lightning.cli.trainer import name_fsdp2
from itm_lightning.errors import printable
from itm_lightning.part import trusting
from itm_lightning.registry import KINDS, load_parts

#: Commands that use what has been trained, or tell what there is; each is a module's ``main``.
OTHER_COMMANDS = {
    "compare": "itm_lightning.cli.compare",
    "convert": "itm_lightning.cli.convert",
    "explain": "itm_lightning.cli.explain",
    "list": "itm_lightning.cli.list_parts",
}

# What Lightning and torch print in every run although no user can act on it.
_WARNINGS = (
    r".*when using `ckpt_path`, callbacks used to create the checkpoint",  # tests need none
    r"`ModelCheckpoint\(monitor='val/.*'\)` could not find",  # a line at the end says why
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen trunk should be
    r"`LightningModule.configure_optimizers` returned `None`",  # a closed-form fit has none
    r".*`parameters` is an empty generator, no gradient clipping",  # nor gradients
    r"predict returned None",  # it collects features, and ranks them at the end
    r".*sync_dist=True",  # every process has the same scores of the whole gallery already
    r"Using `DistributedSampler` with the dataloaders",  # what it repeats counts once
    r"Your `IterableDataset` has `__len__` defined",  # ours is exact with workers, too
    r"FSDP2-wrapped module .* returned a view tensor",  # nothing writes into a trunk's tokens
    r".*_get_pg_default_device|Multiple backends are registered",  # within torch
    r".*isinstance\(treespec, LeafSpec\)",  # within Lightning
    r"`torch.jit.script` is deprecated",  # within torch, where explain calls jvp
)
_LOG_LINES = {
    "pytorch_lightning.utilities.rank_zero": (
        "💡 Tip",  # advertisements
        "Loading `train_dataloader` to estimate number of stepping batches",
        "Restoring states from the checkpoint path",  # another line says so once it is done
    ),
    "lightning_fabric.utilities.rank_zero": (),
    "pytorch_lightning.trainer.connectors.checkpoint_connector": ("`weights_only` was not set",),
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


@dataclass(frozen=True)
class _Printable:
    """Formats a warning without the control characters of a dataset's names and captions.

    Attributes:
        format: of the warnings module, or of Lightning.
    """

    format: Callable[..., str]

    def __call__(self, message: Warning | str, *args: Any, **kwargs: Any) -> str:
        return self.format(printable(str(message)), *args, **kwargs)


def filter_warnings() -> None:
    """Filters these warnings and lines of the log; all others come through, printable."""
    if not isinstance(warnings.formatwarning, _Printable):
        warnings.formatwarning = _Printable(warnings.formatwarning)
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message)
    for logger in _LOG_LINES:
        logging.getLogger(logger).addFilter(_is_of_use)
        logging.getLogger(logger).addFilter(_make_printable)


def _make_printable(record: logging.LogRecord) -> bool:
    """Lightning names files, whose names may hold control characters."""
    lines = record.getMessage().split("\n")
    shown = (line if line.isprintable() else printable(line) for line in lines)
    record.msg, record.args = "\n".join(shown), ()
    return True


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_LOG_LINES[record.name])
