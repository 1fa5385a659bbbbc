"""The config a checkpoint carries, as the weakest of all: flags > YAML > checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from itm_lightning.errors import InputError
from itm_lightning.runs import find_checkpoint

_DEFAULT_ROOT = "runs"
# Only a resumed fit goes on with the trainer's settings; a test may run on another machine.
_SECTIONS = {"fit": ("seed_everything", "trainer", "model", "data")}
_OTHER_SECTIONS = ("model", "data")


def with_checkpoint_config(
    args: Sequence[str], commands: Iterable[str]
) -> tuple[list[str], bool]:
    """Puts the config of the checkpoint that ``--ckpt_path`` names before all other configs.

    ``--ckpt_path last`` and ``best`` become the newest such checkpoint under
    ``--trainer.default_root_dir``.

    Args:
        args: the command line's.
        commands: the subcommands there are.

    Returns:
        The arguments to parse, and whether there is a checkpoint.

    Raises:
        InputError: there is no such checkpoint, or it was not written by itm-lightning.
    """
    command = next((arg for arg in args if arg in commands), None)
    which = _option(args, "ckpt_path")
    if command is None or not which:
        return list(args), False
    root = _option(args, "trainer.default_root_dir") or _DEFAULT_ROOT
    path = find_checkpoint(Path(root), which)
    config = _config(path, _SECTIONS.get(command, _OTHER_SECTIONS))
    after = list(args).index(command) + 1
    start = [*args[:after], "--config", yaml.safe_dump(config)]
    return [*start, *args[after:], "--ckpt_path", str(path)], True


def _config(path: Path, sections: Sequence[str]) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the broken file makes its readers raise
        raise InputError(f"--ckpt_path {path}: not a checkpoint that can be read") from error
    if "config" not in checkpoint:
        raise InputError(
            f"--ckpt_path {path}: holds no config; only checkpoints that the command line wrote do"
        )
    return {name: checkpoint["config"][name] for name in sections if name in checkpoint["config"]}


def _option(args: Sequence[str], name: str) -> str | None:
    """The value of a flag, or else of the same key in the last config that sets it."""
    return _flag(args, f"--{name}") or _configured(args, name.split("."))


def _flag(args: Sequence[str], flag: str) -> str | None:
    value = None
    for arg, following in zip(args, [*args[1:], None], strict=True):
        if arg == flag:
            value = following
        elif arg.startswith(f"{flag}="):
            value = arg.partition("=")[2]
    return value


def _configured(args: Sequence[str], keys: Sequence[str]) -> str | None:
    value = None
    pairs = zip(args, args[1:], strict=False)
    paths = [b for a, b in pairs if a in ("--config", "-c")]
    paths += [arg.partition("=")[2] for arg in args if arg.startswith("--config=")]
    for path in filter(lambda path: Path(path).is_file(), paths):
        section = yaml.safe_load(Path(path).read_text())
        for key in keys:
            section = section.get(key) if isinstance(section, dict) else None
        value = section or value
    return value
