"""Batches larger than memory: encode without a graph, score, and encode again by chunks.

Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021. Their algorithm: encode all without a graph; compute the loss and its gradient with
respect to the representations (the cache); then, a chunk at a time, encode once more with the same
random numbers and go backward from that chunk's part of the cache. Checkpointing each chunk's
encoding is the same computation: torch goes backward from the newest node to the oldest, so that
the gradient of all representations is known before the last chunk is encoded again, and a chunk's
activations are freed before the chunk before it is encoded again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from itm_lightning.errors import InputError
from itm_lightning.types import Features
from itm_lightning.utils.checkpointing import recompute

BATCH_NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm


def encode_by_chunks(
    encode: Callable[[Any], Features], inputs: Any, size: int, anchor: Tensor
) -> Features:
    """``encode(inputs)`` with the activations of at most one chunk in memory at a time.

    Args:
        encode: makes features of some of the inputs, each row independently of the others.
        inputs: ``B`` images (a tensor or :class:`~itm_lightning.types.Features`) or a list of
            texts.
        size: rows per chunk.
        anchor: any tensor on the device that encodes; see
            :func:`~itm_lightning.utils.checkpointing.recompute`.
    """
    starts = range(0, len(inputs), size)
    chunks = [recompute(encode, inputs[i : i + size], anchor=anchor) for i in starts]
    return Features.cat(chunks)


def check_chunks(matcher: nn.Module) -> None:
    """Checks that the encoders give the same features for a chunk as for the whole batch.

    Args:
        matcher: its modules already in the mode in which they will train.

    Raises:
        InputError: an encoder normalises by the statistics of the batch.
    """
    for path, module in matcher.named_modules():
        of_encoder = path.startswith(("image_encoder.", "text_encoder."))
        if of_encoder and isinstance(module, BATCH_NORMS) and module.training:
            raise InputError(
                f"model.gradient_cache: {path} ({type(module).__name__}) normalises by the "
                "batch, and a chunk is only a part of it: freeze the encoder (trainable: false), "
                "put its batch norms into eval(), or leave model.gradient_cache off"
            )
