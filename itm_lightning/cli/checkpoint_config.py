"""The config a checkpoint carries, as the weakest of all: flags > YAML > checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import torch
import yaml

from itm_lightning.cli.runs import find_checkpoint
from itm_lightning.errors import InputError

_DEFAULT_ROOT = "runs"
# Only a resumed fit goes on with the trainer's settings; a test may run on another machine. The
# protocol that a fit was given is for its test: the val split may be of another size.
_SECTIONS = {
    "fit": ("seed_everything", "trainer", "model", "data", "protocol"),
    "test": ("model", "data", "protocol"),
}
_OTHER_SECTIONS = ("model", "data")


def with_checkpoint_config(
    args: Sequence[str], commands: Iterable[str]
) -> tuple[list[str], dict[str, Any] | None]:
    """Puts the config of the checkpoint that ``--ckpt_path`` names before all other configs.

    ``--ckpt_path last`` and ``best`` become the newest such checkpoint under
    ``--trainer.default_root_dir``.

    Args:
        args: the command line's.
        commands: the subcommands there are.

    Returns:
        The arguments to parse, and the assets of the checkpoint's encoders if there is one.

    Raises:
        InputError: there is no such checkpoint, or it was not written by itm-lightning.
    """
    command = next((arg for arg in args if arg in commands), None)
    which = _option(args, "ckpt_path")
    if command is None or not which:
        return list(args), None
    root = _option(args, "trainer.default_root_dir") or _DEFAULT_ROOT
    path = find_checkpoint(Path(root), which)
    checkpoint = _read(path)
    # A checkpoint that a notebook wrote knows its model, but of its data only the user does.
    config = checkpoint.get("config") or {"model": checkpoint["matcher"]["recipe"]}
    sections = _SECTIONS.get(command, _OTHER_SECTIONS)
    config = {name: config[name] for name in sections if name in config}
    after = list(args).index(command) + 1
    start = [*args[:after], "--config", yaml.safe_dump(config)]
    return [*start, *args[after:], "--ckpt_path", str(path)], checkpoint["matcher"]["assets"]


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the broken file makes its readers raise
        raise InputError(f"--ckpt_path {path}: not a checkpoint that can be read") from error
    if "matcher" not in checkpoint:
        raise InputError(f"--ckpt_path {path}: not written by itm-lightning, it holds no Matcher")
    return checkpoint


def _option(args: Sequence[str], name: str) -> str | None:
    """The value of a flag, or else of the same key in the last config that sets it."""
    return _flag(args, f"--{name}") or _configured(args, name.split("."))


def _flag(args: Sequence[str], flag: str) -> str | None:
    value = None
    for arg, following in zip_longest(args, args[1:]):
        if arg == flag:
            value = following
        elif arg.startswith(f"{flag}="):
            value = arg.partition("=")[2]
    return value


def _configured(args: Sequence[str], keys: Sequence[str]) -> str | None:
    value = None
    paths = [b for a, b in pairwise(args) if a in ("--config", "-c")]
    paths += [arg.partition("=")[2] for arg in args if arg.startswith("--config=")]
    for path in filter(lambda path: Path(path).is_file(), paths):
        section = yaml.safe_load(Path(path).read_text())
        for key in keys:
            section = section.get(key) if isinstance(section, dict) else None
        value = section or value
    return value
