"""Part: anything YAML can name, which remembers how it was made."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any


class Part:
    """Base of encoders, poolings, similarities, objectives and sources.

    It keeps the arguments of its constructor, so that :func:`to_config` can write them into a
    checkpoint as plain values and :func:`from_config` can build the same part in a fresh process.
    """

    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Part:
        """Notes the arguments before any constructor runs."""
        part = super().__new__(cls)
        # bind_partial: copying and unpickling call __new__ without the arguments
        bound = inspect.signature(cls.__init__).bind_partial(part, *args, **kwargs)
        part.__dict__["_init_args"] = dict(list(bound.arguments.items())[1:])
        return part


def to_config(value: Any) -> Any:
    """Plain values (str, number, list, dict) from which :func:`from_config` rebuilds ``value``.

    Raises:
        TypeError: an argument is neither plain nor a :class:`Part`.
    """
    if isinstance(value, Part):
        cls = type(value)
        arguments = {name: to_config(argument) for name, argument in value._init_args.items()}
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments}
    if isinstance(value, dict):
        return {str(key): to_config(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_config(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{value!r} cannot be written into a checkpoint: it is no Part and not plain")


def from_config(value: Any) -> Any:
    """Builds what :func:`to_config` wrote down."""
    if isinstance(value, list):
        return [from_config(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"class_path", "init_args"}:
        return {key: from_config(item) for key, item in value.items()}
    module, _, name = value["class_path"].rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    return cls(**{key: from_config(item) for key, item in value["init_args"].items()})
