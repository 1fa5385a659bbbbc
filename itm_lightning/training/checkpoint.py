"""What a checkpoint holds of a Matcher, so that a fresh process can build it: plain values only."""

from __future__ import annotations

from typing import Any

from torch import nn

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
