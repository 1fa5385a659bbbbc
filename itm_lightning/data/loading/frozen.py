"""Frozen trunks: their tokens are computed once for all epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from itm_lightning.data.loading.decoding import DecodedImages
from itm_lightning.data.loading.samples import ImageDataset, SeededDataset, SeededRows
from itm_lightning.data.source import Record
from itm_lightning.errors import InputError
from itm_lightning.types import Features
from itm_lightning.utils.progress_bars import progress_bar
from itm_lightning.utils.seeds import seed_of

_BATCH = 128  # images a step
_CPU_BATCH = 16  # they fit the processor's cache: a MobileNetV2 is twice as fast


@dataclass(frozen=True)
class FrozenTokens:
    """Reads a frozen trunk's tokens from memory, instead of decoding images.

    Attributes:
        tokens: ``(N, V, L, D)`` float16, of ``V`` views of each image.
        rows: row by image id.
    """

    tokens: Tensor
    rows: dict[int, int]

    def __call__(self, records: Sequence[Record]) -> Features:
        """Tokens ``(B, L, D)`` float16 of one view of each image, drawn at random."""
        rows = torch.tensor([self.rows[record.image_id] for record in records])
        views = self.tokens.shape[1]
        view = torch.randint(views, rows.shape) if views > 1 else torch.zeros_like(rows)
        tokens = self.tokens[rows, view]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        return Features(tokens, mask, pooled=None)


@torch.no_grad()
def frozen_tokens(
    trunk: Callable[[Tensor], Tensor],
    records: Sequence[Record],
    images: DecodedImages,
    views: int,
    device: torch.device,
    num_workers: int,
    seed: int,
    title: str,
) -> FrozenTokens:
    """Runs a frozen trunk over the images of all records.

    Args:
        trunk: pixels ``(B, 3, H, W)`` to tokens ``(B, L, D)``.
        records: of the ``N`` images.
        images: decodes and transforms them.
        views: how often each image goes through the trunk; above 1 where the transform augments.
        device: the trunk's.
        num_workers: the number of decoding processes.
        seed: of the augmentation.
        title: the progress bar's.

    Returns:
        The tokens, on the CPU.

    Raises:
        InputError: a token is NaN or does not fit into float16.
    """
    dataset = ImageDataset([record for record in records for _ in range(views)], images)
    batch_size = _CPU_BATCH if device.type == "cpu" else _BATCH
    batches: Any = [
        SeededRows(batch.tolist(), seed_of("views", seed, number))
        for number, batch in enumerate(torch.arange(len(dataset)).split(batch_size))
    ]
    loader = DataLoader(
        SeededDataset(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_pixels,
        # of its own: training from precomputed tokens then draws the same random numbers
        generator=torch.Generator(),
    )
    tokens: Tensor | None = None
    start = 0
    with progress_bar(total=len(dataset), desc=title, unit="photo") as progress:
        for pixels in loader:
            part = trunk(pixels.to(device)).to("cpu", torch.float16)
            if not part.isfinite().all():
                row = start + int((~part.isfinite()).flatten(1).any(dim=1).nonzero()[0])
                raise InputError(
                    f"the trunk's tokens of photo {dataset.records[row].location} are NaN, or too "
                    "large for float16: see to its weights, or set "
                    "model.image_encoder.trainable: true"
                )
            if tokens is None:
                tokens = torch.empty((len(dataset), *part.shape[1:]), dtype=torch.float16)
            tokens[start : start + len(part)] = part
            start += len(part)
            progress.update(len(part))
    assert tokens is not None  # the caller has refused empty splits
    places = {record.image_id: row for row, record in enumerate(records)}
    return FrozenTokens(tokens.unflatten(0, (len(records), views)), places)


def _pixels(batch: Any) -> Tensor:
    return batch.images
