"""Weights from a file: read tensors only, and say what does not fit."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from itm_lightning.errors import InputError, one_line


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        InputError: the file is missing, unreadable, or holds no state dict.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no weights file {path}; give the path of a saved state dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises of every kind on what it cannot read
        raise InputError(f"weights file {path} cannot be read: {one_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"weights file {path} holds no state dict (names and their tensors)")
    return state


def load_weights(network: nn.Module, path: str, ignored: Collection[str] = ()) -> None:
    """Loads a file's tensors into ``network``.

    Args:
        network: what is to get the weights.
        path: file of a state dict.
        ignored: names the file may hold although the network lacks them.

    Raises:
        InputError: the file cannot be read, or does not fit; the message names what does not.
    """
    state, wanted = read_state_dict(path), network.state_dict()
    # older files lack the counters of batch normalisation, which it does without
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
        raise InputError(f"weights file {path} does not fit the network: {', '.join(faults)}")
    network.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)


def _first(keys: list[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", …" if len(keys) > count else "")
