"""Precomputed: a source of regions in memory-mapped files."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.data.batch_memory import empty_tensor
from itm_lightning.data.records import well_formed
from itm_lightning.data.source import Record, RegionSource
from itm_lightning.data.sources.precomputed.files import (
    RowRecord,
    SplitFiles,
    read_manifest,
    read_records,
)
from itm_lightning.data.sources.precomputed.regions import Regions
from itm_lightning.data.sources.precomputed.scan import read_scan
from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.types import Features

# SCAN's files call the validation split "dev".
_PREFIXES = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}


@register("source")
class Precomputed(RegionSource):
    """Regions that an encoder has computed: SCAN's files, or a folder of ``lightning extract``.

    For each split, in the folder ``root`` (Lee et al. 2018, section 4; the layout of their code):

    - ``{split}_ims.npy``, ``(N, regions, dim)`` float of any precision, one row an image, or one
      row a text with each image's row repeated. It is memory-mapped, never loaded whole. Where
      images differ in their number of regions: ``(sum of regions, dim)``, with
      ``{split}_offsets.npy``, ``(N + 1,)`` int, the first row of each image and the number of rows.
    - ``{split}_caps.txt``: one text a line, equally many for each image, in the images' order.
    - ``{split}_ids.txt`` (optional): one id a line, for each image or for each text.
    - ``{split}_boxes.npy`` (optional): ``(N, regions, 4)`` or ``(sum of regions, 4)``.
    - ``{split}_records.jsonl`` (optional, by ``lightning extract``): all that the extracted source
      knew of each image; read instead of texts and ids.

    ``lightning extract`` also writes ``manifest.json``, which names the encoder and the classes.

    Args:
        root: the folder.
        splits: the beginning of the names of a split's files, where it is not the split's name (or
            ``dev`` for val): ``{test: testall}``.

    Raises:
        InputError: ``splits`` names a split other than train, val and test.
    """

    def __init__(self, root: str, splits: dict[str, str] | None = None) -> None:
        self.root = Path(root)
        self.splits = splits or {}
        self._opened: dict[str, Regions] = {}
        self._records: dict[str, Sequence[Record]] = {}
        unknown = sorted(set(self.splits) - set(_PREFIXES))
        if unknown:
            raise InputError(f"data.source.splits names {unknown[0]!r}; there are train, val, test")

    def __getstate__(self) -> dict[str, Any]:
        # Each process maps the files itself: a pickled map would be a copy of the whole file.
        return {**self.__dict__, "_opened": {}, "_records": {}}

    @override
    def records(self, split: str) -> Sequence[Record]:
        if split not in self._records:
            self._records[split] = self._read(split)
        return self._records[split]

    @override
    def regions(self, record: Record) -> Tensor:
        assert isinstance(record, RowRecord)
        return torch.from_numpy(self._open(record.prefix)[record.row])

    @override
    def batch(self, records: Sequence[Record]) -> Features:
        found = [record for record in records if isinstance(record, RowRecord)]
        opened = self._open(found[0].prefix)
        if opened.shape is None:
            return super().batch(records)
        tokens = empty_tensor((len(found), *opened.shape), opened.dtype)
        opened.take([record.row for record in found], tokens.numpy())
        return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), pooled=None)

    @override
    def region_boxes(self, record: Record) -> Tensor | None:
        assert isinstance(record, RowRecord)
        opened = self._open(record.prefix)
        return torch.from_numpy(opened.boxes(record.row)) if opened.has_boxes else None

    @override
    def verify(self, record: Record) -> None:
        """Checks that the regions, and their boxes, are finite; shapes were checked before."""
        assert isinstance(record, RowRecord)
        opened = self._open(record.prefix)
        opened.check_finite(record.row, record.location)

    @override
    def photo_key(self, record: Record) -> Hashable:
        return record.location

    @property
    @override
    def made_by(self) -> dict[str, Any] | None:
        manifest = read_manifest(self.root)
        return None if manifest is None else manifest["encoder"].get("fingerprint")

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        manifest = read_manifest(self.root)
        return () if manifest is None else tuple(manifest["class_names"])

    def _check(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"folder {self.root} is missing: set data.source.root")
        read_manifest(self.root)  # refuses a half-done folder

    def _read(self, split: str) -> Sequence[Record]:
        self._check()
        files = self._files(split)
        if files is None:
            return ()
        regions = self._open(files.prefix)
        if not files.records.exists():
            return well_formed(read_scan(files, regions), files.texts)
        records = read_records(files.records, files.prefix)
        if len(records) != len(regions):
            raise InputError(
                f"{files.records} has {len(records)} records, but {files.regions.name} has "
                f"{len(regions)} photos"
            )
        return well_formed(records, files.records)

    def _files(self, split: str) -> SplitFiles | None:
        """The files of a split; ``None`` where there are none and ``splits`` names none."""
        if split in self.splits:
            return SplitFiles(self.root, self.splits[split])
        for prefix in _PREFIXES[split]:
            files = SplitFiles(self.root, prefix)
            if files.regions.exists() or files.texts.exists():
                return files
        if not any(self.root.glob("*_ims.npy")):
            raise InputError(f"{self.root} holds no {split}_ims.npy: set data.source.root")
        return None

    def _open(self, prefix: str) -> Regions:
        if prefix not in self._opened:
            self._opened[prefix] = Regions(SplitFiles(self.root, prefix))
        return self._opened[prefix]
