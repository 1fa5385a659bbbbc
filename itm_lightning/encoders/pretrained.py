"""What the pretrained encoders share: load, describe and rebuild a transformers model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from itm_lightning.errors import InputError, one_line

LoadedT = TypeVar("LoadedT")


def load(from_pretrained: Callable[[str], LoadedT], name: str) -> LoadedT:
    """Calls a ``from_pretrained`` of transformers.

    Args:
        from_pretrained: of a model, tokeniser, … class.
        name: local folder or hub name.

    Raises:
        InputError: neither a folder nor the hub has it; the message says how to give a folder.
    """
    try:
        return from_pretrained(name)
    except Exception as error:  # transformers raises of every kind on what it cannot load
        raise InputError(
            f"{name!r} cannot be loaded from a local folder, the hub's cache or the hub; give the "
            f"path of a folder that save_pretrained wrote (transformers says: {one_line(error)})"
        ) from error


def load_model(name: str) -> Any:
    """The whole model in float32, whatever precision its file has."""
    from transformers import AutoModel

    return load(AutoModel.from_pretrained, name).float()


def rebuild_model(config: dict[str, Any]) -> Any:
    """The whole model as :func:`describe_model` wrote it down, with random weights, in float32."""
    from transformers import CONFIG_MAPPING, AutoModel

    cls = CONFIG_MAPPING[config["model_type"]]
    return AutoModel.from_config(cls.from_dict(config)).float()


def describe_model(model: Any) -> dict[str, Any]:
    """The model's architecture in plain values."""
    return json.loads(model.config.to_json_string(use_diff=False))


def freeze_unreached(network: nn.Module, tokens: Tensor) -> None:
    """Freezes the parameters that ``tokens`` do not depend on: poolers, mask tokens, heads.

    They would never get a gradient, for which distributed training waits.
    """
    reached, nodes, seen = set(), [tokens.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # a leaf of the graph
            reached.add(id(node.variable))
        nodes.extend(following for following, _ in node.next_functions)
    for parameter in network.parameters():
        if id(parameter) not in reached:
            parameter.requires_grad_(False)
