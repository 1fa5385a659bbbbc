"""What the config in a checkpoint may decide: the model, the data, how long to train; no place.

Somebody else may have written the checkpoint. What its config names is checked before the parser
sees it, as the parser imports every class that it is told of.
"""

from __future__ import annotations

import collections.abc
import re
import typing
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger, WandbLogger

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.cli.processes import is_first
from itm_lightning.errors import InputError, printable
from itm_lightning.metrics.protocols import Protocol
from itm_lightning.part import MAY_BUILD, PLACES, Part, checked_class
from itm_lightning.resume.run import Run

# Only a resumed fit keeps the trainer's settings: a test may run on another machine. A fit's
# protocol is for its test: the val split may be of another size.
_SECTIONS = {
    "fit": ("seed_everything", "trainer", "model", "data", "protocol"),
    "test": ("model", "data", "protocol"),
}
_OTHER_SECTIONS = ("model", "data")
#: Settings of the trainer that a resumed fit takes from any checkpoint: numbers and words that say
#: how it trains, and nothing that writes anywhere.
TRAINING = {
    *("accelerator", "devices", "num_nodes", "strategy", "precision", "sync_batchnorm"),
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("overfit_batches", "val_check_interval", "check_val_every_n_epoch", "log_every_n_steps"),
    *("num_sanity_val_steps", "accumulate_grad_batches", "gradient_clip_val", "deterministic"),
    *("gradient_clip_algorithm", "benchmark", "inference_mode", "use_distributed_sampler"),
    *("detect_anomaly", "barebones", "reload_dataloaders_every_n_epochs"),
    *("enable_checkpointing", "enable_progress_bar", "enable_model_summary"),
}
#: What a run that is started again by its name takes from its own checkpoint besides: Lightning's
#: callbacks, loggers, strategies and the like, all of which are imported by now.
_OF_OWN_RUN: dict[str, tuple[type, ...]] = {
    **MAY_BUILD,
    **dict.fromkeys(("pytorch_lightning.", "lightning_fabric."), (object,)),
}
_WORD = re.compile(r"[\w:,+-]*")  # no module's name, no path
_PATH = re.compile(r"\w+(\.\w+)+")


def config_of(checkpoint: Mapping[str, Any]) -> Any:
    """With what a checkpoint was trained; of a notebook's, its model alone, and not its data."""
    return checkpoint.get("config") or {"model": checkpoint["matcher"]["config"]}


def checked_sections(
    checkpoint: Mapping[str, Any], command: str, path: Path, own: bool
) -> dict[str, Any]:
    """The sections of a checkpoint's config that a command takes.

    Args:
        checkpoint: what it holds.
        command: the subcommand.
        path: of the checkpoint.
        own: whether the run that wrote it is started again.

    Raises:
        InputError: it names a class that it may not build, or holds what no config holds.
    """
    config = config_of(checkpoint)
    if not isinstance(config, dict):
        raise InputError(f"{path} has no config: it was changed after it was written")
    names = _SECTIONS.get(command, _OTHER_SECTIONS)
    found = {name: config[name] for name in names if name in config}
    check = _Check(path, MAY_BUILD, own)
    for name, cls in (("model", Matcher), ("data", ITMDataModule)):
        if name in found:
            found[name] = check.arguments(found[name], cls, name)
    if "protocol" in found:
        found["protocol"] = check.value(found["protocol"], Protocol, "protocol")
    trainer: Any = config.get("trainer") if isinstance(config.get("trainer"), dict) else {}
    found.pop("trainer", None)
    if command == "fit":
        found["trainer"] = _resumed_trainer(trainer, path, own)
    elif command in ("validate", "test") and Run.of_checkpoint(path) is not None:
        # W&B, where the fit in whose folder it lies was shown: its test is shown beside it. Other
        # loggers write into files or to servers that they name.
        logger = _Check(path, _OF_OWN_RUN, False).value(trainer.get("logger"), Logger, "logger")
        every = logger if isinstance(logger, list) else [logger]
        kept = [each for each in every if isinstance(each, dict) and _is_of_wandb(each)]
        found["trainer"] = {"logger": kept} if kept else {}
    if not isinstance(found.get("seed_everything", 0), int):
        raise InputError(f"{path}: seed_everything is {found['seed_everything']!r}")
    return found


def _resumed_trainer(trainer: Mapping[str, Any], path: Path, own: bool) -> dict[str, Any]:
    taken = {k: v for k, v in trainer.items() if k in TRAINING and _is_plain(v)}
    if own:
        check = _Check(path, _OF_OWN_RUN, own)
        others = {k: v for k, v in trainer.items() if k not in taken and k != "default_root_dir"}
        return taken | {k: check.value(v, None, f"trainer.{k}") for k, v in others.items()}
    left = [k for k in ("logger", "callbacks") if trainer.get(k) not in (None, True, False, [])]
    if left and is_first():
        what = f"trainer.{' and trainer.'.join(left)}"
        print(printable(f"not taken from {path}: {what}; give them again"))
    return taken


def _is_of_wandb(logger: Mapping[str, Any]) -> bool:
    return str(logger.get("class_path")).rpartition(".")[2] == WandbLogger.__name__


class _Check:
    """Checks what a config gives to constructors, by the types that these declare.

    Args:
        path: of the file, for messages.
        may_build: the classes that it may name.
        places: whether it may say where to write.
    """

    def __init__(self, path: Path, may_build: Mapping[str, tuple[type, ...]], places: bool) -> None:
        self._path, self._may_build = path, may_build
        self._left_out = set() if places else {*PLACES, "dir"}

    def arguments(self, given: Any, cls: type, key: str) -> dict[str, Any]:
        """The arguments of a class, without those that may not be given."""
        if not isinstance(given, dict):
            self._refuse(key, given)
        hints = _hints(cls)
        if stray := next((name for name in given if not str(name).isidentifier()), None):
            self._refuse(f"{key}.{stray}", given[stray])
        return {
            name: self.value(value, hints.get(name), f"{key}.{name}")
            for name, value in given.items()
            if name not in self._left_out
        }

    def value(self, value: Any, hint: Any, key: str) -> Any:
        """A value for a parameter with this type."""
        if isinstance(value, dict) and "class_path" in value:
            return self._part(value, key)
        if isinstance(value, list):
            return [self.value(item, hint, key) for item in value]
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return {name: self.value(item, hint, f"{key}.{name}") for name, item in value.items()}
        # the parser would look for its class
        if isinstance(value, str) and (_is_part(hint) or _may_be_class(hint, value)):
            checked_class(value, f"{self._path} ({key})", self._may_build)
        elif value is not None and not isinstance(value, str | int | float):
            self._refuse(key, value)
        return value

    def _part(self, value: dict[str, Any], key: str) -> dict[str, Any]:
        cls = checked_class(value["class_path"], f"{self._path} ({key})", self._may_build)
        given = value.get("init_args") or {}
        if any(value[name] for name in value.keys() - {"class_path", "init_args"}):
            self._refuse(key, value)
        if cls.__module__.startswith("torch."):  # its types do not tell functions from other values
            if not isinstance(given, dict) or not all(_is_plain(each) for each in given.values()):
                self._refuse(key, given)
            return {"class_path": value["class_path"], "init_args": given}
        return {"class_path": value["class_path"], "init_args": self.arguments(given, cls, key)}

    def _refuse(self, key: str, value: Any) -> typing.NoReturn:
        raise InputError(
            f"{self._path}: its config has {str(value)[:80]!r} as {key}, which no fit wrote"
        )


def _is_plain(value: Any) -> bool:
    """Whether it is a number or a word, or some, that the parser imports nothing for."""
    if isinstance(value, dict):
        return "class_path" not in value and all(_is_plain(each) for each in value.values())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return value is None or isinstance(value, int | float)


def _hints(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        with suppress(KeyError, NameError, TypeError):  # no constructor, or types unknown by now
            found |= typing.get_type_hints(vars(base)["__init__"])
    return found


def _is_part(hint: Any) -> bool:
    """Whether the parser makes a part, or finds a function, of a string for this type."""
    if typing.get_origin(hint) is collections.abc.Callable:
        return True
    if isinstance(hint, type):
        return issubclass(hint, Part | Callback | Logger)
    return any(map(_is_part, typing.get_args(hint)))


def _may_be_class(hint: Any, value: str) -> bool:
    """Whether a string is a class's path, and the parser may look it up for this type."""
    if _PATH.fullmatch(value) is None:
        return False
    if isinstance(hint, type):
        return hint.__module__ not in ("builtins", "pathlib")
    return hint is None or any(_may_be_class(each, value) for each in typing.get_args(hint))
