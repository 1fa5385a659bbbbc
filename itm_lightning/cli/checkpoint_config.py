"""The config that a checkpoint holds, which flags and YAML override."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.cli import LightningArgumentParser

from itm_lightning.cli.early_args import command_of, option
from itm_lightning.cli.processes import is_first
from itm_lightning.cli.runs import DEFAULT_ROOT
from itm_lightning.ensemble import EnsembleMatcher
from itm_lightning.errors import InputError
from itm_lightning.matcher import Matcher
from itm_lightning.part import load_extra_states
from itm_lightning.resume.run import find_checkpoint
from itm_lightning.training.checkpoint import checked_state, load_all_but_the_objective

# Only a resumed fit keeps the trainer's settings: a test may run on another machine. It keeps the
# loggers alone, to be shown beside its fit. A fit's protocol is for its test: the val split may be
# of another size.
_SECTIONS = {
    "fit": ("seed_everything", "trainer", "model", "data", "protocol"),
    "test": ("model", "data", "protocol"),
}
_OTHER_SECTIONS = ("model", "data")


@dataclass(frozen=True)
class Described:
    """What a checkpoint says of its run.

    Attributes:
        config: with which it was trained; of a notebook's, its model alone.
        extra_states: of the model's parts.
        is_within_epoch: whether a fit that goes on from it begins within an epoch.
    """

    config: dict[str, Any]
    extra_states: dict[str, Any]
    is_within_epoch: bool


def with_checkpoint_config(
    args: Sequence[str], commands: Iterable[str], own: Path | None = None
) -> tuple[list[str], Described | None]:
    """Puts the config of the checkpoint that ``--ckpt_path`` names before all other configs.

    ``--ckpt_path last`` and ``best`` become the newest such checkpoint under
    ``--trainer.default_root_dir``.

    Args:
        args: of the command line.
        commands: all subcommands.
        own: the checkpoint that the run wrote when it was stopped; it replaces ``--ckpt_path``,
            from which the run was first started.

    Returns:
        The arguments to parse, and what the checkpoint says if there is one.

    Raises:
        InputError: there is no such checkpoint, or it was not written by itm-lightning.
    """
    command = command_of(args, commands)
    which = str(own) if own else option(args, "ckpt_path")
    if command is None or not which:
        return list(args), None
    root = option(args, "trainer.default_root_dir") or DEFAULT_ROOT
    path = find_checkpoint(Path(root), which)
    if which in ("last", "best") and is_first():
        print(f"--ckpt_path {which}: {path}")
    checkpoint = read_checkpoint(path, "--ckpt_path")
    # A checkpoint of a notebook describes its model, but not its data.
    config = checkpoint.get("config") or {"model": checkpoint["matcher"]["config"]}
    loops = checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {})
    states = checkpoint["matcher"]["extra_state"]
    described = Described(config, states, bool(loops.get("combined_loader")))
    sections = _SECTIONS.get(command, _OTHER_SECTIONS)
    logger = config.get("trainer", {}).get("logger")
    config = {name: config[name] for name in sections if name in config}
    if command in ("validate", "test") and not isinstance(logger, bool | None):
        config["trainer"] = {"logger": logger}
    after = list(args).index(command) + 1
    start = [*args[:after], "--config", yaml.safe_dump(config)]
    return [*start, *args[after:], "--ckpt_path", str(path)], described


def add_checkpoint_flags(parser: LightningArgumentParser) -> None:
    """Adds ``--start_from`` and ``--ensemble``."""
    parser.add_argument(
        "--start_from",
        type=str | None,
        default=None,
        help="Checkpoint of the same model, from whose weights a new fit starts.",
    )
    parser.add_class_arguments(EnsembleFlags, "ensemble")


def start_from(model: Matcher, path: str) -> None:
    """Gives a Matcher that is to be trained the weights of another one.

    Raises:
        InputError: there is no such checkpoint, or it does not fit.
    """
    checkpoint = read_checkpoint(Path(path), "--start_from")
    states = checkpoint["matcher"]["extra_state"]
    states = {path: state for path, state in states.items() if path.split(".")[0] != "objective"}
    load_extra_states(model, states)
    load_all_but_the_objective(model, checkpoint["state_dict"], f"--start_from {path}")


class EnsembleFlags:
    """Further models; validate, test and predict average their scores with ``--ckpt_path``'s.

    Args:
        checkpoints: of the further models; each has encoders and a head of its own.
        weights: one for each model, that of ``--ckpt_path`` first; all 1 by default.

    Raises:
        InputError: a checkpoint is missing, there are not as many weights as models, or one is
            not above 0.
    """

    def __init__(
        self, checkpoints: list[str] | None = None, weights: list[float] | None = None
    ) -> None:
        self.checkpoints = checkpoints or []
        n_models = 1 + len(self.checkpoints)
        self.weights = [1.0] * n_models if weights is None else weights
        if len(self.weights) != n_models or min(self.weights) <= 0:
            raise InputError(
                f"--ensemble.weights is {weights}, for {n_models} models: give one number above 0 "
                "for each, that of --ckpt_path first"
            )
        for path in self.checkpoints:
            read_checkpoint(Path(path), "--ensemble.checkpoints")

    def load(self, command: str, first: Matcher, ckpt_path: str | None) -> EnsembleMatcher:
        """Loads all models, before anything long begins.

        Args:
            command: the subcommand.
            first: the model that ``--ckpt_path`` describes, without its weights.
            ckpt_path: where its weights are.

        Raises:
            InputError: the command scores nothing, or has no checkpoint of its own.
        """
        if command not in ("validate", "test", "predict"):
            raise InputError(
                f"--ensemble is for validate, test and predict; {command} has one model"
            )
        if ckpt_path is None:
            raise InputError("--ensemble needs --ckpt_path, too: the first of the models")
        checkpoint = read_checkpoint(Path(ckpt_path), "--ckpt_path")
        first.on_load_checkpoint(checkpoint)
        first.load_state_dict(checkpoint["state_dict"])
        others = [Matcher.load_from_checkpoint(path) for path in self.checkpoints]
        return EnsembleMatcher([first, *others], self.weights)


def read_checkpoint(path: Path, flag: str) -> dict[str, Any]:
    """What a checkpoint holds; its tensors stay on disk until they are used.

    Args:
        path: of the file.
        flag: that named it.

    Raises:
        InputError: it is missing or broken, or was not written by itm-lightning.
    """
    if not path.is_file():
        raise InputError(f"{flag} {path}: there is no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the broken file makes its readers raise
        raise InputError(f"{flag} {path}: not a checkpoint that can be read") from error
    checked_state(checkpoint, f"{flag} {path}")
    return checkpoint
