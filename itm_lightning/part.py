"""Part: anything YAML can name, which remembers how it was made."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn

from itm_lightning.errors import InputError

#: Plain values (str, int, float, list, dict), which ``torch.load(weights_only=True)`` reads.
ExtraState = dict[str, Any]

_skipping: ContextVar[dict[str, ExtraState] | None] = ContextVar("skipping", default=None)


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

    def extra_state(self) -> ExtraState:
        """What a checkpoint needs of this part beside its arguments and tensors; plain values.

        As the vocabulary of a text encoder, or the names of classes.
        """
        return {}

    def load_extra_state(self, state: ExtraState) -> None:
        """Takes back what :meth:`extra_state` gave; called before ``load_state_dict``.

        A part that is in this state already keeps its weights.
        """


@contextmanager
def skip_pretrained(extra_states: dict[str, ExtraState] | None = None) -> Iterator[None]:
    """A context in which parts are built without files, hub or pretrained weights.

    A checkpoint is read where those may no longer exist: extra state and ``load_state_dict`` then
    supply what the constructors left out.

    Args:
        extra_states: by module path, for a constructor that needs an encoder's width at once and
            so gives the encoder its state itself; see :func:`given_extra_states`.
    """
    token = _skipping.set(extra_states or {})
    try:
        yield
    finally:
        _skipping.reset(token)


def is_skipping_pretrained() -> bool:
    """Whether this runs within :func:`skip_pretrained`."""
    return _skipping.get() is not None


def given_extra_states() -> dict[str, ExtraState]:
    """The states that :func:`skip_pretrained` was given; empty outside of it."""
    return _skipping.get() or {}


def extra_states_of(module: nn.Module) -> dict[str, ExtraState]:
    """Extra state by module path, of every part among the modules that has some; parents first."""
    parts = {path: m for path, m in module.named_modules() if isinstance(m, Part)}
    states = {path: part.extra_state() for path, part in parts.items()}
    return {path: state for path, state in states.items() if state}


def load_extra_states(module: nn.Module, states: Mapping[str, ExtraState]) -> None:
    """Gives the parts of a module back what :func:`extra_states_of` took.

    Raises:
        InputError: the module has no such part.
    """
    for path, state in states.items():
        try:
            part = module.get_submodule(path)
        except AttributeError as error:
            raise InputError(f"the checkpoint has a part {path}, which the model lacks") from error
        assert isinstance(part, Part)  # extra_states_of takes them of parts alone
        part.load_extra_state(state)


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
