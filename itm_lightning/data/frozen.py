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


@dataclass(frozen=True)
class FrozenTokens:
    """Looks a record's tokens ``(L, D)`` up, in half precision, instead of decoding its photo."""

    tokens: Tensor
    rows: dict[int, int]

    def __call__(self, record: Record) -> Tensor:
        """Tokens ``(L, D)`` float16 of the record's photo."""
        return self.tokens[self.rows[record.image_id]]


@torch.no_grad()
def frozen_tokens(
    trunk: Callable[[Tensor], Tensor],
    records: Sequence[Record],
    photos: DecodedPhotos,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    title: str,
) -> FrozenTokens:
    """Runs a frozen trunk over the photos of all records.

    Args:
        trunk: pixels ``(B, 3, H, W)`` to tokens ``(B, L, D)``.
        records: the photos, ``N``.
        photos: decodes and transforms them.
        device: where the trunk is.
        batch_size: photos a step.
        num_workers: decoding processes.
        title: what the progress bar says.

    Returns:
        Tokens ``(N, L, D)`` float16 on the CPU, by image id.
    """
    loader = DataLoader(
        PhotoDataset(records, photos), batch_size, num_workers=num_workers, collate_fn=_pixels
    )
    tokens: Tensor | None = None
    start = 0
    with tqdm(total=len(records), desc=title, unit="photo") as progress:
        for pixels in loader:
            part = trunk(pixels.to(device)).to("cpu", torch.float16)
            if tokens is None:
                tokens = torch.empty((len(records), *part.shape[1:]), dtype=torch.float16)
            tokens[start : start + len(part)] = part
            start += len(part)
            progress.update(len(part))
    assert tokens is not None  # the caller has refused empty splits
    return FrozenTokens(tokens, {record.image_id: row for row, record in enumerate(records)})


def _pixels(samples: Sequence[Sample]) -> Tensor:
    return torch.stack([sample.photo for sample in samples])
