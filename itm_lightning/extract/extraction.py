"""Runs an image encoder's trunk over the images of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from itm_lightning.data import ImageSource, Record, Source
from itm_lightning.encoders import ImageEncoder
from itm_lightning.errors import MOST_WORKERS, InputError
from itm_lightning.extract.folder import Folder
from itm_lightning.extract.plan import Images, plan
from itm_lightning.utils.progress_bars import progress_bar

DTYPES = {"float16": torch.float16, "float32": torch.float32}


def extract(
    encoder: ImageEncoder,
    source: Source,
    records: Callable[[str], Sequence[Record]],
    splits: Sequence[str],
    output: Path,
    dtype: str = "float16",
    batch_size: int = 16,
    num_workers: int = 0,
) -> bool:
    """Writes the tokens of all images, for :class:`~itm_lightning.data.Precomputed` to read.

    It may be stopped at any moment. Called again, it continues, and its files are the same byte for
    byte as those of an uninterrupted run (on the same device and with as many threads).

    Args:
        encoder: its trunk makes the tokens; it is put into evaluation mode.
        source: of the images.
        records: gives the records of a split: ``source.records``, or a selection of them.
        splits: the splits to extract; none of them empty.
        output: the folder to write into.
        dtype: of the tokens that are written, one of :data:`DTYPES`.
        batch_size: images a step.
        num_workers: the number of decoding processes.

    Returns:
        Whether there was anything left to do.

    Raises:
        InputError: the source has no images or the encoder takes none, ``output`` holds something
            else, or a token does not fit into float16.
    """
    if not isinstance(source, ImageSource):
        raise InputError(f"{type(source).__name__} has regions; extract needs a source of photos")
    if batch_size < 1:
        raise InputError(f"--batch_size is {batch_size}; it must be at least 1")
    if not 0 <= num_workers <= MOST_WORKERS:
        raise InputError(f"--num_workers is {num_workers}; it must lie in 0 … {MOST_WORKERS}")
    transform = encoder.eval().transform(train=False)
    folder = Folder(output)
    images = {split: Images(source, records(split), transform) for split in splits}
    folder.begin(plan(encoder, images, dtype, batch_size))
    if folder.complete:
        return False
    for split in splits:
        folder.write_texts(split, images[split].records)
        _extract_split(
            folder, split, encoder, images[split], DTYPES[dtype], batch_size, num_workers
        )
    folder.finish()
    return True


def _extract_split(
    folder: Folder,
    split: str,
    encoder: ImageEncoder,
    images: Images,
    dtype: torch.dtype,
    batch_size: int,
    num_workers: int,
) -> None:
    done = folder.done(split)
    if done == len(images):
        return
    rows = folder.open(split)
    # finished rows end with a batch, so the remaining batches are those of an uninterrupted run
    loader = DataLoader(images.since(done), batch_size=batch_size, num_workers=num_workers)
    title = f"extract {split}"
    with progress_bar(total=len(images), initial=done, desc=title, unit="photo") as progress:
        for tokens in _tokens(encoder, loader, dtype):
            folder.write_rows(split, rows, tokens)
            progress.update(len(tokens))


@torch.no_grad()
def _tokens(
    encoder: ImageEncoder, loader: DataLoader[Tensor], dtype: torch.dtype
) -> Iterator[Tensor]:
    """Tokens ``(B, L, D)`` of each batch, on the CPU."""
    for pixels in loader:
        tokens = encoder.trunk(pixels.to(encoder.device)).to("cpu", dtype)
        if not tokens.isfinite().all():
            raise InputError("the trunk's tokens do not fit into float16: set --dtype float32")
        yield tokens
