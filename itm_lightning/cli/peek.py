"""What the arguments say of a key, before there is a parser for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

import yaml


def command_of(args: Sequence[str], commands: Iterable[str]) -> str | None:
    """The subcommand among the arguments."""
    commands = set(commands)
    return next((arg for arg in args if arg in commands), None)


def option(args: Sequence[str], name: str) -> str | None:
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
