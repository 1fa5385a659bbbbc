"""Part: the base of all that YAML can name. It remembers its constructor's arguments."""

from __future__ import annotations

import importlib
import inspect
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itm_lightning.errors import InputError, check_numbers, refused

#: Plain values (str, int, float, list, dict), which ``torch.load(weights_only=True)`` reads.
ExtraState = dict[str, Any]

_skipping: ContextVar[dict[str, ExtraState] | None] = ContextVar("skipping", default=None)
_trusted: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())


class Part:
    """Base of encoders, poolings, projections, similarities, objectives, sources and protocols.

    It keeps the arguments of its constructor, so that :func:`to_config` can write them into a
    checkpoint as plain values and :func:`from_config` can build the same part in a fresh process.
    """

    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Part:
        """Records the arguments and checks their numbers, before any constructor runs."""
        part = super().__new__(cls)
        # bind_partial: copying and unpickling call __new__ without the arguments
        bound = inspect.signature(cls.__init__).bind_partial(part, *args, **kwargs)
        part.__dict__["_init_args"] = arguments = dict(list(bound.arguments.items())[1:])
        check_numbers(cls, arguments)
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


#: What a checkpoint may build, and any other file but the user's own YAML: parts that are imported
#: by then (the registered ones, this package's, installed packages'), and of these packages the
#: subclasses of these. For others the user names their module (``--trust``).
MAY_BUILD: dict[str, tuple[type, ...]] = {
    "itm_lightning.": (Part, LRScheduler),
    "torch.optim.": (Optimizer, LRScheduler),
    "pytorch_lightning.cli.": (LRScheduler,),  # its ReduceLROnPlateau, which names what it watches
}
#: Arguments that say where to write: no file but the user's own gives them.
PLACES = {"store", "save_dir", "dirpath", "log_dir"}


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
        if not isinstance(part, Part):
            raise InputError(f"the checkpoint has a state of {path}, which has none in the model")
        with refused(f"the checkpoint's state of {path} cannot be read"):
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


def from_config(value: Any, source: object = "a config") -> Any:
    """Builds the value that :func:`to_config` described; all its classes are checked first.

    Args:
        value: plain values.
        source: where they are from, for messages.

    Raises:
        InputError: a class may not be built, see :data:`MAY_BUILD`, or refuses its arguments.
    """
    for class_path in _class_paths(value):
        checked_class(class_path, source)
    return _built(value, source)


def checked_class(
    class_path: object, source: object, may_build: Mapping[str, tuple[type, ...]] = MAY_BUILD
) -> type:
    """The class that a file names, if it may be built; nothing else is imported to find out.

    Args:
        class_path: module and name.
        source: the file, for messages.
        may_build: as :data:`MAY_BUILD`.

    Raises:
        InputError: it may not be built, or cannot be imported although the user trusts it.
    """
    path = str(class_path)
    module, _, name = path.rpartition(".")
    trusted = _trusted.get()
    if path in trusted or path.startswith(tuple(each for each in trusted if each.endswith("."))):
        own = _imported(module, name)
        if issubclass(own, (Part, *itertools.chain(*may_build.values()))):
            return own
    # vars: a package that imports its modules when they are asked for must not do so
    cls = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if isinstance(cls, type) and issubclass(cls, _buildable(cls.__module__, may_build)):
        return cls
    raise InputError(
        f"{source} names the class {path}, which a file may not build: it is no part of "
        "itm-lightning and no optimiser or scheduler of torch; if it is a part of your own, add "
        f"--trust {module.split('.')[0] or path} (in Python: trust=[…])"
    )


@contextmanager
def trusting(modules: Iterable[str], classes: Iterable[str] = ()) -> Iterator[None]:
    """Within it, files may also name these classes, and all of these modules."""
    both = [name for module in modules for name in (module, f"{module}.")]
    token = _trusted.set((*_trusted.get(), *both, *classes))
    try:
        yield
    finally:
        _trusted.reset(token)


def _buildable(module: str, may_build: Mapping[str, tuple[type, ...]]) -> tuple[type, ...]:
    found = (bases for package, bases in may_build.items() if f"{module}.".startswith(package))
    return (Part, *next(found, ()))


def _class_paths(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "class_path" in value:
            yield value["class_path"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _class_paths(item)


def _built(value: Any, source: object) -> Any:
    if isinstance(value, list):
        return [_built(item, source) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"class_path", "init_args"}:
        return {key: _built(item, source) for key, item in value.items()}
    cls = checked_class(value["class_path"], source)
    with refused(f"{source}: {cls.__name__} cannot be built from its arguments"):
        given = {k: v for k, v in value["init_args"].items() if k not in PLACES}
        return cls(**{key: _built(item, source) for key, item in given.items()})


def _imported(module: str, name: str) -> type:
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"class {module}.{name} is needed and cannot be imported ({error}): put the file that "
            "defines it into the current folder, or its folder on PYTHONPATH"
        ) from error
    if not isinstance(cls, type):
        raise InputError(f"{module}.{name} is needed as a class, and is none")
    return cls
