"""The regions of a split, and their boxes, in memory-mapped files."""

from __future__ import annotations

from collections.abc import Sequence
from errno import ENOMEM
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itm_lightning.data.sources.precomputed.files import SplitFiles
from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.foreign_files import regular_file

Array = NDArray[np.generic]


class Regions:
    """The regions of ``N`` rows, one an image; a row is read only when it is accessed.

    Args:
        files: of the split.

    Raises:
        InputError: a file is missing, cannot be read, or does not fit the others.
    """

    def __init__(self, files: SplitFiles) -> None:
        self.path = files.regions
        self._regions = _floats(files.regions)
        self._offsets = self._read_offsets(files.offsets)
        self._boxes_path = files.boxes
        self._boxes = self._read_boxes(files.boxes)

    def __len__(self) -> int:
        return len(self._regions) if self._offsets is None else len(self._offsets) - 1

    def __getitem__(self, row: int) -> Array:
        """Regions ``(L, D)`` of a row; writing into them does not change the file."""
        return _writable(self._regions[self._where(row)])

    @property
    def shape(self) -> tuple[int, ...] | None:
        """``(L, D)`` of every row; ``None`` where they differ in number."""
        return self._regions.shape[1:] if self._offsets is None else None

    @property
    def dtype(self) -> np.dtype:
        """The numbers' precision."""
        return self._regions.dtype

    def take(self, rows: Sequence[int], out: Array) -> None:
        """Copies several rows, all of one :attr:`shape`, to ``out (B, L, D)``."""
        # with the default mode, NumPy would gather into a buffer first, to check the rows
        np.take(self._regions, rows, axis=0, out=out, mode="clip")

    @property
    def has_boxes(self) -> bool:
        """Whether there is a file of boxes."""
        return self._boxes is not None

    def boxes(self, row: int) -> Array:
        """Boxes ``(L, 4)`` of a row."""
        assert self._boxes is not None
        return _writable(self._boxes[self._where(row)])

    def check_finite(self, row: int, name: str) -> None:
        """Checks the numbers of a row.

        Args:
            row: its number.
            name: of its image, for the message.

        Raises:
            InputError: a region or a box is NaN or infinite.
        """
        for path, numbers in ((self.path, self._regions), (self._boxes_path, self._boxes)):
            if numbers is not None and not np.isfinite(numbers[self._where(row)]).all():
                raise InputError(
                    f"{path}: row {row}, of photo {name}, has numbers that are NaN or infinite: "
                    "compute its regions anew"
                )

    def first_numbers(self, most: int) -> Array:
        """The first ``most`` numbers of each row, ``(N, ≤ most)``, to distinguish images by."""
        if self._offsets is None:
            return self._regions[:, 0, :most]
        return self._regions[self._offsets[:-1], :most]

    def _where(self, row: int) -> int | slice:
        if self._offsets is None:
            return row
        return slice(int(self._offsets[row]), int(self._offsets[row + 1]))

    def _read_offsets(self, path: Path) -> NDArray[np.int64] | None:
        shape = self._regions.shape
        if 0 in shape or len(shape) not in (2, 3):
            raise InputError(
                f"{self.path} is {shape}, not (photos, regions, dim) or (regions, dim)"
            )
        if len(shape) == 3:
            if path.exists():
                raise InputError(f"{self.path} is {shape}; beside {path.name} it must be 2-D")
            return None
        if not path.exists():
            raise InputError(
                f"{self.path} is {shape}, not (photos, regions, dim), and there is no {path.name} "
                "that says which regions are whose"
            )
        return _checked_offsets(path, _mapped(path), total=shape[0])

    def _read_boxes(self, path: Path) -> Array | None:
        if not path.exists():
            return None
        boxes, expected = _floats(path), (*self._regions.shape[:-1], 4)
        if boxes.shape != expected:
            raise InputError(f"{path} is {boxes.shape}, not {expected}, as {self.path.name} asks")
        return boxes


def _checked_offsets(path: Path, offsets: Array, total: int) -> NDArray[np.int64]:
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise InputError(f"{path} is {offsets.shape} {offsets.dtype}, not (photos + 1,) integers")
    values = offsets.astype(np.int64)
    if (values[0], values[-1]) != (0, total):
        raise InputError(f"{path} goes from {values[0]} to {values[-1]}, not from 0 to {total}")
    (short,) = np.nonzero(np.diff(values) < 1)
    if len(short):
        row = int(short[0])
        raise InputError(
            f"{path}: photo {row} has no regions (from {values[row]} to {values[row + 1]})"
        )
    return values


def _floats(path: Path) -> Array:
    array = _mapped(path)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.dtype.isnative:
        raise InputError(
            f"{path} holds {array.dtype}, not floating-point numbers of 16, 32 or 64 bits in "
            "this machine's byte order: save it with numpy's astype('float32')"
        )
    return array


def _mapped(path: Path) -> Array:
    try:
        return np.asarray(_load(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except InputError:  # of what is no regular file
        raise
    except Exception as error:  # of a header, NumPy raises what comes to hand
        size = path.stat().st_size
        raise InputError(
            f"{path} ({size} bytes) is truncated or no .npy file: {one_line(error)}"
        ) from error


def _load(path: Path) -> Array:
    """The array in a file, mapped; writable if possible, without changing the file."""
    try:
        return np.load(regular_file(path, "file"), mmap_mode="c", allow_pickle=False)
    except OSError as error:
        if error.errno != ENOMEM:  # the system reserves memory for all that could be written
            raise
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _writable(view: Array) -> Array:
    """The view, or a copy where it is read-only, which torch's tensors cannot be."""
    return view if view.flags.writeable else view.copy()
