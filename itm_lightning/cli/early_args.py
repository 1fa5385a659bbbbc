"""Arguments that are read before there is a parser, and those that depend on one another."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from jsonargparse import Namespace

from itm_lightning.errors import InputError
from itm_lightning.utils.text_files import read_yaml

_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_CLASS = re.compile(r"(?<![\w./-])(?:[A-Za-z_]\w*\.)+[A-Z]\w*(?![\w./-])")
_CONFIG_FLAGS = "--config", "-c"


def command_of(args: Sequence[str], commands: Iterable[str]) -> str | None:
    """The subcommand among the arguments."""
    commands = set(commands)
    return next((arg for arg in args if arg in commands), None)


def configs_first(args: Sequence[str], commands: Iterable[str]) -> list[str]:
    """The arguments with the subcommand's configs before its other flags, which override them.

    The parser reads from left to right: a config after a flag would override it, and a flag of a
    part whose class only the config names would be refused.
    """
    command = command_of(args, commands)
    start = 0 if command is None else list(args).index(command) + 1
    configs, others = _without_configs(args[start:])
    return [*args[:start], *(f"--config={path}" for path in configs), *others]


def option(args: Sequence[str], name: str) -> str | None:
    """The value of a flag, or of the same key in the last config that sets it."""
    return _flag(args, f"--{name}") or _configured(args, name.split("."))


def check_configs(args: Sequence[str]) -> None:
    """Reads every YAML file that the arguments name, before a parser that tells no lines.

    Raises:
        InputError: one is no YAML, or a config or a section of it is no mapping; the message names
            the file, and line or section.
    """
    configs = _without_configs(args)[0]
    for path in _yaml_files(args):
        content = read_yaml(Path(path))
        if path in configs and not isinstance(content, dict):
            what = "there is nothing in it" if content is None else "this is no 'key: value'"
            raise InputError(f"{path}, line 1: {what}: a config has keys such as model: and data:")
        for name in ("trainer", "model", "data") if path in configs else ():
            section = content.get(name, {})
            if not isinstance(section, dict | str):  # a string is the name of a file with it
                raise InputError(
                    f"{path}: {name} is {section!r}: put its settings below it, or leave it out"
                )


def without_trust(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without ``--trust``, and what it names; it may be given several times.

    Raises:
        InputError: it names nothing.
    """
    others: list[str] = []
    trusted: list[str] = []
    left = iter(args)
    for arg in left:
        if arg == "--trust" or arg.startswith("--trust="):
            name = next(left, "") if arg == "--trust" else arg.partition("=")[2]
            if not _MODULE.fullmatch(name):
                raise InputError(f"--trust {name}: name a module, such as --trust my_file")
            trusted.append(name)
        else:
            others.append(arg)
    return others, trusted


def named_modules(args: Sequence[str]) -> list[str]:
    """All that may be the module of a class in the flags and configs."""
    return [found for text in _written(args) for found in _DOTTED.findall(text)]


def named_classes(args: Sequence[str]) -> list[str]:
    """The classes that the user wrote himself, in flags and configs: files may name them, too.

    The name of a file that a command reads is no class, although ``evil.ckpt`` looks like one.
    """
    found = (name for text in _written(args) for name in _CLASS.findall(text))
    return [name for name in found if not os.path.lexists(name)]


def _written(args: Sequence[str]) -> list[str]:
    """The flags, and the text of the YAML files that they name."""
    texts = list(args)
    for path in _yaml_files(args):
        with suppress(OSError, UnicodeDecodeError):  # the parser says so
            texts.append(Path(path).read_text())
    return texts


def _yaml_files(args: Sequence[str]) -> list[str]:
    values = (arg.rpartition("=")[2] for arg in args)
    others = [value for value in values if value.endswith((".yaml", ".yml"))]
    return list(filter(os.path.isfile, dict.fromkeys([*_without_configs(args)[0], *others])))


def _flag(args: Sequence[str], flag: str) -> str | None:
    value = None
    for arg, following in zip_longest(args, args[1:]):
        if arg == flag:
            value = following
        elif arg.startswith(f"{flag}="):
            value = arg.partition("=")[2]
    return value


def _without_configs(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the config flags name, in their order, and all other arguments."""
    configs: list[str] = []
    others: list[str] = []
    left = iter(args)
    for arg in left:
        if arg in _CONFIG_FLAGS and (path := next(left, None)) is not None:
            configs.append(path)
        elif arg.startswith("--config="):
            configs.append(arg.partition("=")[2])
        else:
            others.append(arg)
    return configs, others


def _configured(args: Sequence[str], keys: Sequence[str]) -> str | None:
    value = None
    for path in filter(os.path.isfile, _without_configs(args)[0]):
        section = read_yaml(Path(path))
        for key in keys:
            section = section.get(key) if isinstance(section, dict) else None
        value = section or value
    return value


def dim_of_head(dim: int, class_path: str, init_args: Namespace) -> int:
    """The head's own ``dim`` where the user gave one, and else the model's.

    The Matcher refuses a head's ``dim`` that differs from its own; a link that overwrote it would
    silently train another head than the config describes.

    Args:
        dim: the Matcher's.
        class_path: the head's.
        init_args: the head's.
    """
    own = init_args.get("dim")
    return dim if own is None or own == _default(class_path) else own


def _default(class_path: str) -> object:
    """The default of a class's ``dim``, which the parser puts where the user gave none."""
    module, _, name = class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    parameter = inspect.signature(cls).parameters.get("dim")
    return None if parameter is None else parameter.default
