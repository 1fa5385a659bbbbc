"""What a checkpoint holds of a Matcher, so that a fresh process can build it: plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from itm_lightning.encoders.pretrained import load_tensors
from itm_lightning.errors import InputError
from itm_lightning.part import extra_states_of, to_config

#: Of the layout below; checkpoints of another layout are refused.
VERSION = 2


def matcher_state(module: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
    """The entry ``checkpoint["matcher"]``.

    Args:
        module: the Matcher.
        arguments: of its constructor, parts among them.

    Returns:
        ``version``; ``config``, from which :func:`~itm_lightning.part.from_config` makes the
        arguments; and ``extra_state`` of every part, by module path.
    """
    config = {name: to_config(value) for name, value in arguments.items()}
    return {"version": VERSION, "config": config, "extra_state": extra_states_of(module)}


def checked_state(checkpoint: dict[str, Any], name: object) -> dict[str, Any]:
    """The entry ``checkpoint["matcher"]``.

    Args:
        checkpoint: what a checkpoint file holds.
        name: of the file or the flag that names it, for messages.

    Raises:
        InputError: it was not written by itm-lightning, or by a version with another layout.
    """
    if not isinstance(checkpoint, dict) or "matcher" not in checkpoint:
        raise InputError(f"{name} was not written by itm-lightning: it holds no Matcher")
    state = checkpoint["matcher"]
    version = state.get("version", 1)
    if version != VERSION:
        raise InputError(
            f"{name} was written by another version of itm-lightning (layout {version}, not "
            f"{VERSION}): train it again, or read it with the version that wrote it"
        )
    return state


def load_all_but_the_objective(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Loads a Matcher's tensors, but for those of its objective, which may be another one.

    Raises:
        InputError: some are missing or do not fit.
    """
    given = {key: value for key, value in tensors.items() if not key.startswith("objective.")}
    own = {k: v for k, v in module.state_dict().items() if k.startswith("objective.")}
    load_tensors(module, given | own, name)
