"""Helpers of pretrained encoders: weights in files, models and tokenisers of transformers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.pretrained_models import load

# one byte becomes one character, so that binary files (SentencePiece) can be kept as str too
_ENCODING = "latin-1"

#: Keys of transformers' files that fetch code or weights, or choose a kernel of the hub.
_OF_OTHER_CODE = {
    *("auto_map", "trust_remote_code", "attn_implementation", "_attn_implementation"),
    *("experts_implementation", "use_kernels", "quantization_config", "use_pretrained_backbone"),
}
#: The files that transformers' tokenisers save; none is a pickle.
_TOKENISER_FILES = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "vocab-src.json", "vocab-tgt.json", "merges.txt", "bpe.codes"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model", "source.spm"),
    *("target.spm", "prophetnet.tokenizer", "normalizer.json", "emoji.json", "dict.txt"),
    "chat_template.jinja",
}


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        InputError: the file is missing, unreadable, or holds no state dict.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no weights file {path}; give the path of a saved state dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors
        raise InputError(f"weights file {path} cannot be read: {one_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"weights file {path} holds no state dict (names and their tensors)")
    return state


def load_weights(network: nn.Module, path: str, ignored: Collection[str] = ()) -> None:
    """Loads a file's tensors into ``network``; arguments and errors as of :func:`load_tensors`.

    Raises:
        InputError: the file cannot be read.
    """
    load_tensors(network, read_state_dict(path), f"weights file {path}", ignored)


def load_tensors(
    network: nn.Module, state: Mapping[str, Tensor], name: str, ignored: Collection[str] = ()
) -> None:
    """Loads tensors into ``network``.

    Args:
        network: the network that gets them.
        state: the tensors by the names of the network's.
        name: where they are from, for messages.
        ignored: names that there may be although the network does not have them.

    Raises:
        InputError: some tensors do not fit; the message names them.
    """
    wanted = network.state_dict()
    # older files have no counters of batches, which batch normalisation does not need
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted and k not in ignored]
    misshapen = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    faults = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]
    if faults:
        raise InputError(f"{name} does not fit the network: {', '.join(faults)}")
    network.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)


def _first(keys: list[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", …" if len(keys) > count else "")


def load_model(name: str) -> Any:
    """The whole model in float32, in whatever precision it is stored."""
    from transformers import AutoModel

    return load(AutoModel.from_pretrained, name).float()


def rebuild_model(config: dict[str, Any]) -> Any:
    """The model that ``describe_model`` described, with random weights, in float32.

    It is of transformers' own code: what a checkpoint says of other code is left out.
    """
    from transformers import CONFIG_MAPPING, AutoModel

    cls = CONFIG_MAPPING[config["model_type"]]
    config = _without(config, _OF_OTHER_CODE)
    return AutoModel.from_config(cls.from_dict(config), trust_remote_code=False).float()


def _without(value: Any, left_out: Collection[str]) -> Any:
    """Nested plain values without the keys that are left out."""
    if isinstance(value, dict):
        return {k: _without(item, left_out) for k, item in value.items() if k not in left_out}
    return [_without(item, left_out) for item in value] if isinstance(value, list) else value


class JointSpace(nn.Module):
    """The image or text model of CLIP or SigLIP, with its projection into the joint space.

    The first token is the model's own pooled vector; the others are its hidden states. All are
    projected alike.

    Args:
        half: the image model or the text model.
        projection: from the width of its hidden states to that of the joint space.
    """

    def __init__(self, half: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.model: Any = half
        self.projection = projection
        self.config: Any = half.config

    def forward(self, **inputs: Any) -> Tensor:
        """Tokens ``(B, 1 + L, D)``."""
        output = self.model(**inputs)
        states = output.last_hidden_state
        if self.config.model_type == "clip_vision_model":  # it normalises the pooled vector only
            states = self.model.post_layernorm(states)
        both = torch.cat([output.pooler_output.unsqueeze(1), states], dim=1)
        return self.projection(both)


def freeze_unreached(network: nn.Module, tokens: Tensor) -> None:
    """Freezes the parameters that ``tokens`` do not depend on: poolers, mask tokens, heads.

    They never get a gradient, and distributed training would wait for one.
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


def read_tokeniser(tokeniser: Any) -> dict[str, str]:
    """The contents of the tokeniser's files, by name."""
    with TemporaryDirectory() as folder:
        tokeniser.save_pretrained(folder)
        return {
            path.name: path.read_bytes().decode(_ENCODING)
            for path in sorted(Path(folder).iterdir())
        }


def rebuild_tokeniser(files: dict[str, str], config: Any) -> Any:
    """The tokeniser of files that :func:`read_tokeniser` returned.

    Args:
        files: their contents, by name.
        config: the configuration of the tokeniser's model.

    Raises:
        InputError: there is none, or one of another name, which might lie elsewhere or hold a
            pickle.
    """
    from transformers import AutoTokenizer

    if not files:
        raise InputError("there are no files of a tokeniser")
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            if name not in _TOKENISER_FILES:
                raise InputError(f"{name!r} is no file of a tokeniser that a checkpoint may bring")
            data = content.encode(_ENCODING)
            if name == "tokenizer_config.json":
                data = json.dumps(_without(json.loads(data), _OF_OTHER_CODE)).encode()
            (Path(folder) / name).write_bytes(data)
        return AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
