"""Batches larger than memory: encode without a graph, score, and replay by chunks.

Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021. Their algorithm: encode all without a graph; compute the loss and its gradient with
respect to the representations (the cache); then, a chunk at a time, encode once more with the same
random numbers and go backward from that chunk's share of the cache. Checkpointing each chunk's
encoding is the same computation: torch goes backward from the newest node to the oldest, so that
the gradient of all representations is there before the last chunk is replayed, and a chunk's
activations are gone before the one before it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from itm_lightning.errors import InputError
from itm_lightning.types import Features
from itm_lightning.utils.checkpointing import recompute


def encode_by_chunks(
    encode: Callable[[Any], Features], inputs: Any, size: int, anchor: Tensor
) -> Features:
    """``encode(inputs)``, of which one chunk's activations at most are in memory at a time.

    Args:
        encode: makes features of some of the inputs; each row of its own.
        inputs: ``B`` photos (a tensor or :class:`~itm_lightning.types.Features`) or a list of
            captions.
        size: rows a chunk.
        anchor: any tensor on the device that encodes; see
            :func:`~itm_lightning.utils.checkpointing.recompute`.
    """
    starts = range(0, len(inputs), size)
    chunks = [recompute(encode, inputs[i : i + size], anchor=anchor) for i in starts]
    return Features.cat(chunks)


def checked_size(size: int | None) -> int | None:
    """The rows of a chunk, or ``None`` for all at once.

    Raises:
        InputError: there are none.
    """
    if size is not None and size < 1:
        raise InputError(
            f"model.gradient_cache is {size}; give the pairs to encode at a time, at least 1, or "
            "leave it out"
        )
    return size


def check_chunks(name: str, encoder: nn.Module) -> None:
    """Checks that an encoder makes the same of a chunk as of the whole batch.

    Args:
        name: what the Matcher calls it.
        encoder: its modules in the mode in which they will train.

    Raises:
        InputError: it normalises by the statistics of the batch.
    """
    for path, module in encoder.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise InputError(
                f"model.gradient_cache: {name}.{path} ({type(module).__name__}) normalises by the "
                "batch, of which a chunk is but a part: freeze the encoder (trainable: false), put "
                "its batch norms into eval(), or leave model.gradient_cache off"
            )
