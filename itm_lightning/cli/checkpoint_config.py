"""The config a checkpoint carries, as the weakest of all: flags > YAML > checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from itm_lightning.cli.early_args import command_of, option
from itm_lightning.cli.runs import DEFAULT_ROOT, find_checkpoint
from itm_lightning.errors import InputError

# Only a resumed fit goes on with the trainer's settings; a test may run on another machine. The
# protocol that a fit was given is for its test: the val split may be of another size.
_SECTIONS = {
    "fit": ("seed_everything", "trainer", "model", "data", "protocol"),
    "test": ("model", "data", "protocol"),
}
_OTHER_SECTIONS = ("model", "data")


def with_checkpoint_config(
    args: Sequence[str], commands: Iterable[str], own: Path | None = None
) -> tuple[list[str], dict[str, Any] | None]:
    """Puts the config of the checkpoint that ``--ckpt_path`` names before all other configs.

    ``--ckpt_path last`` and ``best`` become the newest such checkpoint under
    ``--trainer.default_root_dir``.

    Args:
        args: the command line's.
        commands: the subcommands there are.
        own: the checkpoint that the run itself left when it was stopped; it comes before
            ``--ckpt_path``, from where the run once started.

    Returns:
        The arguments to parse, and the assets of the checkpoint's encoders if there is one.

    Raises:
        InputError: there is no such checkpoint, or it was not written by itm-lightning.
    """
    command = command_of(args, commands)
    which = str(own) if own else option(args, "ckpt_path")
    if command is None or not which:
        return list(args), None
    root = option(args, "trainer.default_root_dir") or DEFAULT_ROOT
    path = find_checkpoint(Path(root), which)
    checkpoint = read_checkpoint(path, "--ckpt_path")
    # A checkpoint that a notebook wrote knows its model, but of its data only the user does.
    config = checkpoint.get("config") or {"model": checkpoint["matcher"]["config"]}
    sections = _SECTIONS.get(command, _OTHER_SECTIONS)
    config = {name: config[name] for name in sections if name in config}
    after = list(args).index(command) + 1
    start = [*args[:after], "--config", yaml.safe_dump(config)]
    return [*start, *args[after:], "--ckpt_path", str(path)], checkpoint["matcher"]["assets"]


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
    if "matcher" not in checkpoint:
        raise InputError(f"{flag} {path}: not written by itm-lightning, it holds no Matcher")
    return checkpoint
