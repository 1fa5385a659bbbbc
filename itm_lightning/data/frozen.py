"""Frozen trunks: their tokens are computed once, not once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from itm_lightning.data.samples import DecodedPhotos, PhotoDataset, Sample
from itm_lightning.data.source import Record

_BATCH = 128  # photos a step
_CPU_BATCH = 16  # so few stay in the processor's cache, and go through a MobileNetV2 twice as fast


@dataclass(frozen=True)
class FrozenTokens:
    """Looks a record's tokens up, instead of decoding its photo.

    Attributes:
        tokens: ``(N, V, L, D)`` float16, of ``V`` views of each photo.
        rows: image id to row.
    """

    tokens: Tensor
    rows: dict[int, int]

    def __call__(self, record: Record) -> Tensor:
        """Tokens ``(L, D)`` float16 of one of the photo's views, at random."""
        views = self.tokens[self.rows[record.image_id]]
        return views[torch.randint(len(views), ())] if len(views) > 1 else views[0]


@torch.no_grad()
def frozen_tokens(
    trunk: Callable[[Tensor], Tensor],
    records: Sequence[Record],
    photos: DecodedPhotos,
    views: int,
    device: torch.device,
    num_workers: int,
    title: str,
) -> FrozenTokens:
    """Runs a frozen trunk over the photos of all records.

    Args:
        trunk: pixels ``(B, 3, H, W)`` to tokens ``(B, L, D)``.
        records: the photos, ``N``.
        photos: decodes and transforms them.
        views: how often it sees each photo; more than once where the transform augments.
        device: where the trunk is.
        num_workers: decoding processes.
        title: what the progress bar says.

    Returns:
        The tokens, on the CPU.
    """
    dataset = PhotoDataset([record for record in records for _ in range(views)], photos)
    batch_size = _CPU_BATCH if device.type == "cpu" else _BATCH
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=_pixels)
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
    rows = {record.image_id: row for row, record in enumerate(records)}
    return FrozenTokens(tokens.unflatten(0, (len(records), views)), rows)


def _pixels(samples: Sequence[Sample]) -> Tensor:
    return torch.stack([sample.photo for sample in samples])
