"""The config that a checkpoint holds, which flags and YAML override."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from itm_lightning.cli.checkpoint_sections import checked_sections, config_of
from itm_lightning.cli.early_args import command_of, option
from itm_lightning.cli.processes import is_first
from itm_lightning.cli.runs import DEFAULT_ROOT
from itm_lightning.ensemble import EnsembleMatcher
from itm_lightning.errors import InputError, printable, refused
from itm_lightning.matcher import Matcher
from itm_lightning.part import load_extra_states, skip_pretrained
from itm_lightning.resume.run import find_checkpoint, flat
from itm_lightning.similarity.ensemble import check_weights
from itm_lightning.training.checkpoint import fill, load_all_but_the_objective, read_checkpoint

_ENCODERS = "image_encoder", "text_encoder"


@dataclass(frozen=True)
class GivenCheckpoint:
    """The checkpoint that ``--ckpt_path`` names, or from which a run goes on.

    Attributes:
        path: of the file.
        content: what it holds.
    """

    path: Path
    content: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """See :func:`~itm_lightning.cli.checkpoint_sections.config_of`."""
        return config_of(self.content)

    @property
    def is_within_epoch(self) -> bool:
        """Whether a fit that goes on from it begins within an epoch."""
        entry: Any = self.content
        for key in ("loops", "fit_loop", "state_dict", "combined_loader"):
            entry = entry.get(key) if isinstance(entry, dict) else None
        return bool(entry)

    @contextmanager
    def building(self, model: dict[str, Any]) -> Iterator[None]:
        """Within it, the model is built that will get the checkpoint's weights.

        It needs no pretrained weights, whose file may be gone.

        Args:
            model: the section of the config, as plain values.

        Raises:
            InputError: an encoder is of another class, so that vocabulary and the like do not fit.
        """
        recipe = self.content["matcher"]["config"]
        for encoder in _ENCODERS:
            here, there = (_class(parts.get(encoder)) for parts in (model, recipe))
            if here != there:
                raise self._misfit(f"{encoder}.class_path", here, there)
        what = f"--ckpt_path {self.path}: the model cannot be built from it"
        with skip_pretrained(self.content["matcher"]["extra_state"]), refused(what):
            yield

    def fill(self, model: Matcher, config: dict[str, Any]) -> None:
        """Gives the model the checkpoint's weights, before any long work.

        Args:
            model: that was built.
            config: the section that it was built from, as plain values.

        Raises:
            InputError: they do not fit; the message names the first key that differs.
        """
        try:
            fill(model, self.content, f"--ckpt_path {self.path}")
        except InputError as error:
            here, there = flat(config), flat(self.config["model"])
            for key, value in there.items():
                if _name(here.get(key)) != _name(value):
                    raise self._misfit(key, here.get(key), value) from error
            raise

    def _misfit(self, key: str, here: object, there: object) -> InputError:
        return InputError(
            f"--ckpt_path {self.path} does not fit this model: model.{key} is {here} here and "
            f"{there} in the checkpoint; leave it out"
        )


def with_checkpoint_config(
    args: Sequence[str], commands: Iterable[str], own: Path | None = None
) -> tuple[list[str], GivenCheckpoint | None]:
    """Puts what is taken of a checkpoint's config before all other configs.

    The checkpoint is that of ``--ckpt_path``; ``last`` and ``best`` are the newest such checkpoint
    under ``--trainer.default_root_dir``.

    Args:
        args: of the command line.
        commands: all subcommands.
        own: the checkpoint that the run wrote when it was stopped; it replaces ``--ckpt_path``,
            from which the run was first started.

    Returns:
        The arguments to parse, and the checkpoint if there is one.

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
        print(printable(f"--ckpt_path {which}: {path}"))
    checkpoint = read_checkpoint(path, f"--ckpt_path {path}")
    config = checked_sections(checkpoint, command, path, own is not None)
    after = list(args).index(command) + 1
    start = [*args[:after], "--config", yaml.safe_dump(config)]
    return [*start, *args[after:], "--ckpt_path", str(path)], GivenCheckpoint(path, checkpoint)


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
    checkpoint = read_checkpoint(Path(path), f"--start_from {path}")
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
        check_weights(self.weights, n_models, "--ensemble.weights, that of --ckpt_path first")
        for path in self.checkpoints:
            read_checkpoint(Path(path), f"--ensemble.checkpoints {path}")

    def load(self, command: str, first: Matcher, ckpt_path: str | None) -> EnsembleMatcher:
        """Loads all models, before anything long begins.

        Args:
            command: the subcommand.
            first: the model of ``--ckpt_path``.
            ckpt_path: where its weights are from.

        Raises:
            InputError: the command scores nothing, or has no checkpoint of its own.
        """
        if command not in ("validate", "test", "predict"):
            raise InputError(
                f"--ensemble is for validate, test and predict; {command} has one model"
            )
        if ckpt_path is None:
            raise InputError("--ensemble needs --ckpt_path, too: the first of the models")
        others = [Matcher.load_from_checkpoint(path) for path in self.checkpoints]
        return EnsembleMatcher([first, *others], self.weights)


def _class(part: Any) -> str:
    return str(_name(part["class_path"]) if isinstance(part, Mapping) else part)


def _name(value: Any) -> Any:
    """A class without its module, which may be that of its package; other values unchanged."""
    return value.rpartition(".")[2] if isinstance(value, str) else value
