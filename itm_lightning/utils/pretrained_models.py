"""Models of transformers, from a folder or the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from itm_lightning.errors import InputError, one_line

LoadedT = TypeVar("LoadedT")


def load(from_pretrained: Callable[..., LoadedT], name: str) -> LoadedT:
    """Calls a ``from_pretrained`` of transformers, which runs code of its own alone.

    Args:
        from_pretrained: the method of a class of models, tokenisers, …
        name: local folder or hub name.

    Raises:
        InputError: neither a folder nor the hub has it, or its config asks for a kernel of the hub;
            the message says how to give a folder.
    """
    try:
        refuse_kernels(name)
        return from_pretrained(name, trust_remote_code=False)  # nor does it ask whether to
    except Exception as error:  # transformers raises many kinds of errors
        raise InputError(
            f"{name!r} cannot be loaded from a local folder, the hub's cache or the hub; give the "
            f"path of a folder that save_pretrained wrote (transformers says: {one_line(error)})"
        ) from error


def refuse_kernels(name: str) -> None:
    """Refuses a model whose config has transformers fetch compiled code from the hub, and run it.

    Args:
        name: local folder or hub name.

    Raises:
        InputError: an ``attn_implementation``, or the like, is a repository.
        OSError: there is no config.
    """
    from transformers import PretrainedConfig

    configs = [PretrainedConfig.get_config_dict(name)[0]]
    while configs:
        for key, value in configs.pop().items():
            if isinstance(value, dict):  # of the text's and the image's halves
                configs.append(value)
            elif key.endswith("_implementation") and "/" in str(value):
                raise InputError(f"its config asks for a kernel of the hub, {value!r}, as {key}")


def describe_model(model: Any) -> dict[str, Any]:
    """The model's architecture in plain values."""
    return json.loads(model.config.to_json_string(use_diff=False))
