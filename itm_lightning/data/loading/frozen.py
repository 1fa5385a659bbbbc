"""Frozen trunks: their tokens are computed once, not once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from itm_lightning.data.loading.decoding import DecodedImages
from itm_lightning.data.loading.samples import ImageDataset, SeededDataset, SeededRows
from itm_lightning.data.source import Record
from itm_lightning.types import Features
from itm_lightning.utils.seeds import seed_of

_BATCH = 128  # photos a step
_CPU_BATCH = 16  # so few stay in the processor's cache, and go through a MobileNetV2 twice as fast


@dataclass(frozen=True)
class FrozenTokens:
    """Looks tokens up, instead of decoding photos.

    Attributes:
        tokens: ``(N, V, L, D)`` float16, of ``V`` views of each photo.
        rows: image id to row.
    """

    tokens: Tensor
    rows: dict[int, int]

    def __call__(self, records: Sequence[Record]) -> Features:
        """Tokens ``(B, L, D)`` float16 of one of each photo's views, at random."""
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
    """Runs a frozen trunk over the photos of all records.

    Args:
        trunk: pixels ``(B, 3, H, W)`` to tokens ``(B, L, D)``.
        records: the photos, ``N``.
        images: decodes and transforms them.
        views: how often it sees each photo; more than once where the transform augments.
        device: where the trunk is.
        num_workers: decoding processes.
        seed: of the augmentation.
        title: what the progress bar says.

    Returns:
        The tokens, on the CPU.
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
        # its own: whoever trains from precomputed tokens goes through the same random numbers
        generator=torch.Generator(),
    )
    tokens: Tensor | None = None
    start = 0
    with tqdm(total=len(dataset), desc=title, unit="photo") as progress:
        for pixels in loader:
            part = trunk(pixels.to(device)).to("cpu", torch.float16)
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
