"""What one key of the YAML says for another."""

from __future__ import annotations

import importlib
import inspect

from jsonargparse import Namespace


def dim_of_head(dim: int, class_path: str, init_args: Namespace) -> int:
    """The head's own ``dim`` where the user gave one, and else the model's.

    The Matcher refuses a head's ``dim`` that differs from its own; a link that overwrote it would
    train another head than the config describes, and say nothing.

    Args:
        dim: of the Matcher.
        class_path: of the head.
        init_args: of the head.
    """
    own = init_args.get("dim")
    return dim if own is None or own == _default(class_path) else own


def _default(class_path: str) -> object:
    """The default of a class's ``dim``, which the parser puts where the user gave none."""
    module, _, name = class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    parameter = inspect.signature(cls).parameters.get("dim")
    return None if parameter is None else parameter.default
