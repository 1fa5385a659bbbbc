"""Models of transformers, from a folder or the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from itm_lightning.errors import InputError, one_line

LoadedT = TypeVar("LoadedT")


def load(from_pretrained: Callable[..., LoadedT], name: str) -> LoadedT:
    """Calls a ``from_pretrained`` of transformers.

    Args:
        from_pretrained: the method of a class of models, tokenisers, …
        name: local folder or hub name.

    Raises:
        InputError: neither a folder nor the hub has it; the message says how to give a folder.
    """
    try:
        return from_pretrained(name, trust_remote_code=False)  # nor asks whether to
    except Exception as error:  # transformers raises many kinds of errors
        raise InputError(
            f"{name!r} cannot be loaded from a local folder, the hub's cache or the hub; give the "
            f"path of a folder that save_pretrained wrote (transformers says: {one_line(error)})"
        ) from error


def describe_model(model: Any) -> dict[str, Any]:
    """The model's architecture in plain values."""
    return json.loads(model.config.to_json_string(use_diff=False))
