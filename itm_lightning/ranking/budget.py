"""How much memory a block may take."""

from __future__ import annotations

import math

import torch

# A block that leaves the caches of a core is scored more slowly, however much memory there is.
_CPU_BYTES = 64 * 2**20
# Of all there is, not of what is free: blocks must not differ from one run to the next.
_GPU_SHARE = 1 / 32
_GPU_SHARE_OF_FEATURES = 1 / 4  # of a gallery; weights and blocks need room, too
_BYTES = 4  # scores are float32
_TENSORS = 4  # about so many tensors of a block's size live at a time


def block_elements(device: torch.device) -> int:
    """The most elements that a tensor of a block should have, by the memory of its device."""
    if device.type != "cuda":
        return _CPU_BYTES // (_BYTES * _TENSORS)
    total = torch.cuda.get_device_properties(device).total_memory
    return int(total * _GPU_SHARE) // (_BYTES * _TENSORS)


def feature_bytes(device: torch.device) -> float:
    """The most bytes of features that should wait on their device until they are scored."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.get_device_properties(device).total_memory * _GPU_SHARE_OF_FEATURES
