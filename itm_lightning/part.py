"""Part: the base of all that YAML can name. It remembers its constructor's arguments."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
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
    """Base of encoders, poolings, projections, similarities, objectives, sources and protocols.

    It keeps the arguments of its constructor, so that :func:`to_config` can write them into a
    checkpoint as plain values and :func:`from_config` can build the same part in a fresh process.
    """

    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Part:
        """Records the arguments, before any constructor runs."""
        part = super().__new__(cls)
        # bind_partial: copying and unpickling call __new__ without the arguments
        bound = inspect.signature(cls.__init__).bind_partial(part, *args, **kwargs)
        part.__dict__["_init_args"] = dict(list(bound.arguments.items())[1:])
        return part

    def extra_state(self) -> ExtraState:
        """What a checkpoint stores of this part besides its arguments and tensors.

        Plain values, such as the vocabulary of a text encoder or the names of classes.
        """
        return {}

    def load_extra_state(self, state: ExtraState) -> None:
        """Restores what :meth:`extra_state` gave; called before ``load_state_dict``.

        A part that is already in this state must keep its weights.
        """


class UsesLabels:
    """Mixin of objectives and heads that learn from the class labels of the training split.

    Attributes:
        class_names: the classes, in the order of the labels' columns; none before a fit.
    """

    class_names: tuple[str, ...] = ()

    def learn_classes(self, names: Sequence[str]) -> None:
        """Sets the classes before a fit; those that a checkpoint brought stay.

        Raises:
            InputError: a checkpoint brought others.
        """
        names = tuple(names)
        if self.class_names not in ((), names):
            raise InputError(
                f"{type(self).__name__} was trained on the classes {', '.join(self.class_names)}, "
                f"but the source has {', '.join(names)}: take the source that it was trained on"
            )
        if not self.class_names:
            self.class_names = names
            self.build_classes(len(names))

    def build_classes(self, count: int) -> None:
        """Makes the weights that ``count`` classes need; nothing by default."""

    def extra_state(self) -> ExtraState:
        """The names of the classes."""
        return {"class_names": list(self.class_names)} if self.class_names else {}

    def load_extra_state(self, state: ExtraState) -> None:
        """Sets the classes that a checkpoint brings."""
        self.learn_classes(state["class_names"])


@contextmanager
def skip_pretrained(extra_states: dict[str, ExtraState] | None = None) -> Iterator[None]:
    """A context in which parts are built without files, hub or pretrained weights.

    A checkpoint may be loaded on a machine that has none of them: extra state and
    ``load_state_dict`` then supply what the constructors left out.

    Args:
        extra_states: extra state by module path, for a constructor that needs the width of an
            encoder and therefore loads the encoder's state itself; see
            :func:`given_extra_states`.
    """
    token = _skipping.set(extra_states or {})
    try:
        yield
    finally:
        _skipping.reset(token)


def is_skipping_pretrained() -> bool:
    """Whether the caller runs within :func:`skip_pretrained`."""
    return _skipping.get() is not None


def given_extra_states() -> dict[str, ExtraState]:
    """The extra states given to :func:`skip_pretrained`; empty outside of it."""
    return _skipping.get() or {}


def extra_states_of(module: nn.Module) -> dict[str, ExtraState]:
    """The extra state of every part among the modules that has some, by path; parents first."""
    parts = {path: m for path, m in module.named_modules() if isinstance(m, Part)}
    states = {path: part.extra_state() for path, part in parts.items()}
    return {path: state for path, state in states.items() if state}


def load_extra_states(module: nn.Module, states: Mapping[str, ExtraState]) -> None:
    """Loads into the parts of a module what :func:`extra_states_of` returned.

    Raises:
        InputError: the module has no part at one of the paths.
    """
    for path, state in states.items():
        try:
            part = module.get_submodule(path)
        except AttributeError as error:
            raise InputError(
                f"the checkpoint has a part {path}, which the model does not have"
            ) from error
        assert isinstance(part, Part)  # extra_states_of returns states of parts only
        part.load_extra_state(state)


def to_config(value: Any) -> Any:
    """Plain values (str, number, list, dict) from which :func:`from_config` rebuilds ``value``.

    Raises:
        TypeError: an argument is neither a plain value nor a :class:`Part`.
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
    raise TypeError(
        f"{value!r} cannot be written into a checkpoint: it is neither a Part nor a plain value"
    )


def from_config(value: Any) -> Any:
    """Builds the value that :func:`to_config` described.

    Raises:
        InputError: a class cannot be imported.
    """
    if isinstance(value, list):
        return [from_config(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"class_path", "init_args"}:
        return {key: from_config(item) for key, item in value.items()}
    cls = _class_at(value["class_path"])
    return cls(**{key: from_config(item) for key, item in value["init_args"].items()})


def _class_at(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"class {class_path} is needed and cannot be imported ({error}): put the file that "
            "defines it into the current folder, or its folder on PYTHONPATH"
        ) from error
