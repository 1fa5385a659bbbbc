"""Paired: vectors of images and of texts with classes, in one file of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from itm_lightning.data.source import SPLITS, Choice, Record, VectorSource
from itm_lightning.errors import InputError, Natural, one_line
from itm_lightning.registry import register
from itm_lightning.utils.foreign_files import regular_file

Array = NDArray[Any]
_SIDES = ("image", "text", "label")
_SUFFIXES = (".npz", ".mat")


@register("source")
class Paired(VectorSource):
    """Pairs of an image vector and a text vector with a class, as the classical benchmarks have.

    A ``.npz`` or ``.mat`` file (of MATLAB's formats up to 7) holds, for ``train``, ``test`` and
    perhaps ``val``, the arrays ``image_train (N, D)``, ``text_train (N, E)`` float, and
    ``label_train (N,)`` integers or ``(N, C)`` of 0 and 1, where a pair may have several classes.
    ``categories (C,)`` may name the classes; without, they are called by their numbers, in order.

    Args:
        root: the file, or a folder with one such file.
        val: pairs that are held out of train for validation, evenly spread over it; only for a file
            without arrays for val.
        arrays: the arrays' names in the file where they differ: ``{image_train: I_tr, …}``.

    Raises:
        InputError: ``val`` is below 0, or ``arrays`` has an unknown key.
    """

    def __init__(self, root: str, val: Natural = 0, arrays: dict[str, str] | None = None) -> None:
        self.root = Path(root)
        self.val = val
        self.arrays = arrays or {}
        known = {f"{side}_{split}" for side in _SIDES for split in SPLITS} | {"categories"}
        unknown = sorted(set(self.arrays) - known)
        if unknown:
            raise InputError(
                f"data.source.arrays names {unknown[0]!r}; there are image_train, text_train, "
                "label_train, the same of val and test, and categories"
            )
        self._read: tuple[dict[str, _Split], tuple[str, ...]] | None = None
        self._records: dict[str, Sequence[Record]] = {}

    @override
    def records(self, split: str) -> Sequence[Record]:
        if split not in self._records:
            self._records[split] = self._made(split)
        return self._records[split]

    def _made(self, split: str) -> Sequence[Record]:
        splits, names = self._opened()
        if split not in splits:
            return ()
        found = []
        for row, classes in enumerate(splits[split].classes):
            labels = tuple(names[column] for column in np.flatnonzero(classes))
            text = f"text vector {row} of {split}" + (f": {', '.join(labels)}" if labels else "")
            found.append(Record(row, (text,), (row,), f"{split} {row}", labels))
        return found

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self._opened()[1]

    @override
    def image_vectors(self, records: Sequence[Record]) -> Tensor:
        return torch.from_numpy(self._rows(records).images)

    @override
    def text_vectors(self, chosen: Sequence[Choice]) -> Tensor:
        records = [record for record, numbers in chosen for _ in numbers]
        return torch.from_numpy(self._rows(records).texts)

    @override
    def verify(self, record: Record) -> None:
        """Checks nothing: the arrays were checked when they were read."""

    def _rows(self, records: Sequence[Record]) -> _Split:
        split = records[0].location.partition(" ")[0]  # a batch is of one split
        return self._opened()[0][split].at([record.image_id for record in records])

    def _opened(self) -> tuple[dict[str, _Split], tuple[str, ...]]:
        if self._read is None:
            path = _file_of(self.root)
            self._read = self._splits(_arrays_of(path), path)
        return self._read

    def _splits(
        self, found: Mapping[str, Array], path: Path
    ) -> tuple[dict[str, _Split], tuple[str, ...]]:
        named = {
            (side, split): self.arrays.get(f"{side}_{split}", f"{side}_{split}")
            for side in _SIDES
            for split in SPLITS
        }
        splits = [s for s in SPLITS if s == "train" or any(named[x, s] in found for x in _SIDES)]
        for split in splits:
            for side in _SIDES[:2]:
                if named[side, split] not in found:
                    raise InputError(
                        f"{path} has no array {named[side, split]!r}, only "
                        f"{', '.join(sorted(found))}: set data.source.arrays"
                    )
        labels = {s: found[named["label", s]] for s in splits if named["label", s] in found}
        if labels and len(labels) < len(splits):
            raise InputError(f"{path} has labels of {', '.join(labels)} alone: label every split")
        categories = found.get(self.arrays.get("categories", "categories"))
        classes, names = _multi_hot(labels, categories, path)
        read = {}
        for split in splits:
            images, texts = (_vectors(found, named[side, split], path) for side in _SIDES[:2])
            none = np.zeros((len(images), 0), dtype=bool)
            read[split] = _Split(images, texts, classes.get(split, none))
        _check_shapes(read, path)
        if self.val and "val" in read:
            raise InputError(f"{path} has a validation split: leave data.source.val out")
        if self.val >= len(read["train"].images):
            raise InputError(
                f"data.source.val is {self.val}, but {path} has {len(read['train'].images)} "
                "training pairs: hold out fewer"
            )
        if self.val:
            n = len(read["train"].images)
            held_out = np.isin(np.arange(n), np.arange(self.val) * n // self.val)
            read["train"], read["val"] = read["train"].at(~held_out), read["train"].at(held_out)
        return read, names


class _Split(NamedTuple):
    """Rows of a split: vectors ``(N, D)`` and ``(N, E)`` float32, classes ``(N, C)`` bool."""

    images: Array
    texts: Array
    classes: Array

    def at(self, rows: Any) -> _Split:
        """Some of the rows."""
        return _Split(self.images[rows], self.texts[rows], self.classes[rows])


def _file_of(root: Path) -> Path:
    if root.is_file():
        return root
    files = sorted(path for path in root.glob("*") if path.suffix in _SUFFIXES)
    if len(files) != 1:
        found = f"{len(files)} of them" if files else "none"
        raise InputError(
            f"data.source.root must be a .npz or .mat file, or a folder with one; {root} has "
            f"{found}"
        )
    return files[0]


def _arrays_of(path: Path) -> dict[str, Array]:
    """Every array of the file; objects, which could run code, are refused."""
    try:
        regular_file(path, "file")
        if path.suffix == ".mat":
            return {k: v for k, v in _read_mat(path).items() if not k.startswith("__")}
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except InputError:
        raise
    except Exception as error:  # of many types: zip, zlib, NumPy's and SciPy's own
        raise InputError(f"{path} cannot be read ({one_line(error)}): write it anew") from error


def _read_mat(path: Path) -> dict[str, Array]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(f"{path}: .mat files need scipy: pip install scipy") from error
    return loadmat(path)


def _vectors(found: Mapping[str, Array], name: str, path: Path) -> Array:
    values = found[name]
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not len(values):
        raise InputError(
            f"{name} in {path} is {values.dtype} {values.shape}; give numbers (rows, width)"
        )
    vectors = values.astype(np.float32)
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InputError(f"{name} in {path} is not finite in row {row}: correct or leave it out")
    return vectors


def _multi_hot(
    labels: Mapping[str, Array], categories: Array | None, path: Path
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Classes ``(N, C)`` bool by split, and their names."""
    if not labels:
        return {}, ()
    # MATLAB knows no vectors: a column of numbers is one
    flat = {s: v[:, 0] if v.ndim == 2 and v.shape[1] == 1 else v for s, v in labels.items()}
    for split, values in flat.items():
        if values.ndim not in (1, 2) or values.dtype.kind not in "biuf":
            raise InputError(
                f"the labels of {split} in {path} are {values.dtype} {values.shape}; give whole "
                "numbers (rows,), or (rows, classes) of 0 and 1"
            )
        allowed = np.isin(values, (0, 1)) if values.ndim == 2 else np.isfinite(values)
        allowed &= values == np.round(values)
        if not allowed.all():
            place = tuple(int(index) for index in np.argwhere(~allowed)[0])
            raise InputError(
                f"the labels of {split} in {path} have {values[place]} in row {place[0]}; give "
                "whole numbers (rows,), or (rows, classes) of 0 and 1"
            )
    if len({values.ndim for values in flat.values()}) > 1:
        raise InputError(
            f"the labels in {path} are (rows,) in one split and (rows, classes) in another: give "
            "all in one way"
        )
    if all(values.ndim == 2 for values in flat.values()):
        classes = {split: values.astype(bool) for split, values in flat.items()}
        numbers = np.arange(next(iter(classes.values())).shape[1])
    else:
        numbers = np.unique(np.concatenate([values.ravel() for values in flat.values()]))
        classes = {split: values[:, None] == numbers for split, values in flat.items()}
    if categories is None or categories.size != len(numbers):
        return classes, tuple(f"class {number:g}" for number in numbers)
    # a cell of MATLAB is an array within the array
    names = [np.asarray(name).item() for name in categories.ravel()]
    return classes, tuple(map(str, names))


def _check_shapes(splits: Mapping[str, _Split], path: Path) -> None:
    train = splits["train"]
    for name, split in splits.items():
        counts = {len(rows) for rows in split}
        if len(counts) > 1:
            raise InputError(
                f"split {name} in {path} has {len(split.images)} image vectors, "
                f"{len(split.texts)} text vectors and {len(split.classes)} labels: row i of each "
                "must be one pair"
            )
        if any(a.shape[1] != b.shape[1] for a, b in zip(split, train, strict=True)):
            raise InputError(f"{path}: the vectors of {name} are not as wide as those of train")
