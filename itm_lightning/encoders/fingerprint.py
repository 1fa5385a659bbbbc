"""What tells one image encoder's tokens from another's."""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from itm_lightning.part import recipe

if TYPE_CHECKING:
    from itm_lightning.encoders.base import ImageEncoder

_OF_TRAINING = ("trainable", "pooling", "augment")  # the trunk's tokens know nothing of them


def fingerprint(encoder: ImageEncoder) -> dict[str, Any]:
    """All that the tokens of a trunk depend on, in plain values that JSON keeps.

    Args:
        encoder: its pooling and how it learns do not matter, nor where its weights lay.

    Returns:
        Its class, its arguments, its transform and normalisation in evaluation, and the SHA-256 of
        its trunk's tensors.
    """
    cls = type(encoder)
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "arguments": _arguments(encoder),
        "transform": " ".join(repr(encoder.transform(train=False)).split()),
        "normalisation": [encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()],
        "tensors": tensors_sha256(encoder.network),
    }


def tensors_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers: their names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    """The numbers in the order of their indices, whatever the memory format.

    A collective for a tensor that is sharded.
    """
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _arguments(encoder: ImageEncoder) -> dict[str, Any]:
    """The constructor's arguments that matter, those left to their defaults included."""
    bound = inspect.signature(type(encoder).__init__).bind_partial(encoder, **encoder._init_args)
    bound.apply_defaults()
    skipped = {"self", encoder.weights_from, *_OF_TRAINING}
    return {k: recipe(v) for k, v in bound.arguments.items() if k not in skipped}
