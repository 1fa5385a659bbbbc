"""The manifest: what an extraction will write, computed before it begins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from itm_lightning.data import ImageSource, Record
from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.data.sources.precomputed.files import VERSION, to_line
from itm_lightning.encoders import ImageEncoder
from itm_lightning.encoders.base import grid_of
from itm_lightning.part import to_config


@dataclass(frozen=True)
class Images(Dataset[Tensor]):
    """Pixels ``(3, H, W)`` uint8 of the images of a split, in their order."""

    source: ImageSource
    records: Sequence[Record]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.source.image(self.records[index]))

    def since(self, start: int) -> Images:
        """The images from number ``start`` on."""
        return replace(self, records=self.records[start:])


@torch.no_grad()
def plan(
    encoder: ImageEncoder,
    images: Mapping[str, Images],
    dtype: str,
    batch_size: int,
) -> dict[str, Any]:
    """The manifest of an extraction, in plain values.

    Args:
        encoder: in evaluation mode, on the device it will run on.
        images: by split; the encoder runs over the first one, which gives the shapes.
        dtype: of the regions.
        batch_size: images a step; with another one, sums may differ in their last bit.

    Returns:
        ``version``, ``encoder`` (its ``config`` and ``fingerprint``), ``dtype``, ``batch_size``,
        ``grid`` (:class:`~itm_lightning.encoders.base.Grid`), the source's ``class_names``, and of
        each of ``splits`` the number of ``texts``, the ``shape`` of the regions, ``data``, the
        SHA-256 of the records, and ``photos``, that of their files, ``None`` where it has none.
    """
    first = next(iter(images.values()))
    pixels = first[0]
    tokens, dim = encoder.trunk(pixels[None].to(encoder.device)).shape[1:]
    grid = grid_of(tokens, *pixels.shape[-2:])
    return {
        "version": VERSION,
        "encoder": {"config": to_config(encoder), "fingerprint": encoder.fingerprint()},
        "dtype": dtype,
        "batch_size": batch_size,
        "grid": None if grid is None else grid._asdict(),
        "class_names": list(first.source.class_names),
        "splits": {
            split: {
                "texts": sum(len(record.texts) for record in dataset.records),
                "shape": [len(dataset), tokens, dim],
                "data": _sha256(f"{to_line(r)}\n".encode() for r in dataset.records),
                "photos": _sha256(_files(dataset)),
            }
            for split, dataset in images.items()
        },
    }


def _files(images: Images) -> Iterator[bytes | None]:
    """The files of the images, but of none of a stream: it would be read twice."""
    if isinstance(images.source, StreamedSource):
        return iter([None])
    return map(images.source.encoded, images.records)


def _sha256(contents: Iterable[bytes | None]) -> str | None:
    """SHA-256 of all contents, one after the other; ``None`` where one of them is."""
    digest = hashlib.sha256()
    for content in contents:
        if content is None:
            return None
        digest.update(content)
    return digest.hexdigest()
