"""Parameters that would never get a gradient, for which distributed training waits."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from itm_lightning.encoders.base import Encoder
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features


def freeze_unread(encoders: Iterable[Encoder], similarity: Similarity) -> None:
    """Freezes the encoders' poolings where the head reads tokens alone.

    Args:
        encoders: whose poolings.
        similarity: the head; what it keeps of the features tells what it reads.
    """
    one = Features.from_tokens(torch.zeros(1, 1, 1))
    if similarity.keep(one).pooled is None:
        for encoder in encoders:
            encoder.pooling.requires_grad_(False)
