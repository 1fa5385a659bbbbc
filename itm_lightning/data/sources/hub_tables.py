"""Tables of dataset repositories or local folders of Parquet: kept on disk, or streamed."""

from __future__ import annotations

import bisect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from itm_lightning.data.sources.tables import Row, numbered_rows
from itm_lightning.errors import InputError, one_line

_BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Repository:
    """The repository that holds a table.

    Attributes:
        name: repository id on the Hub, or a local folder or file.
        revision: branch, tag or commit; ``None`` for a local folder.
        config: which of the repository's configurations.
    """

    name: str
    revision: str | None = None
    config: str | None = None

    @property
    def folder(self) -> Path:
        """The folder on disk, to which names of image files are relative."""
        path = Path(self.name)
        return path.parent if path.is_file() else path

    def opened(self, load: Callable[..., Any]) -> Any:
        """What ``datasets.load_dataset``, or another function of its arguments, makes of it."""
        path = Path(self.name)
        if not path.is_file():
            return load(self.name, self.config, revision=self.revision)
        builder = _BUILDERS.get(path.suffix)
        if builder is None:
            raise InputError(
                f"dataset {self.name!r} (data.source.repository) is a file of no kind in "
                f"{', '.join(_BUILDERS)}"
            )
        strict = path.suffix in (".csv", ".jsonl")  # datasets takes what it can make out
        if strict and not sum(1 for _ in numbered_rows(path)):
            raise InputError(f"{path} has no rows: set data.source.repository")
        return load(builder, data_files=self.name)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Turns any error of ``datasets`` or the Hub into an InputError."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # they have no common base class
            why = one_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
            if not Path(self.name).exists():
                why += "; without a network, give a local folder of its Parquet files"
            what = f"dataset {self.name!r} (data.source.repository)"
            raise InputError(f"{what} cannot be read: {why}") from error


class HubTable(ABC):
    """The rows of a repository, by Hub split."""

    @abstractmethod
    def splits(self) -> list[str]:
        """The names of the Hub splits."""

    @abstractmethod
    def size(self, split: str) -> int:
        """The number of rows of a Hub split."""

    @abstractmethod
    def kinds(self, split: str) -> dict[str, str]:
        """What each column holds, by its name: ``image``, ``text`` (or lists of it), ``other``."""

    @abstractmethod
    def rows(self, split: str, columns: Sequence[str]) -> Iterator[Row]:
        """All rows in order, with these columns alone; other columns, as of images, stay unread."""

    @abstractmethod
    def cell(self, split: str, row: int, column: str) -> Any:
        """One cell; an image is the bytes of its file, or ``{"bytes": …, "path": …}``."""

    @abstractmethod
    def image_names(self, split: str, column: str) -> Iterator[Hashable]:
        """What tells the images of a column apart, row by row; ``None`` where they have no names.

        No image is read.
        """


class StoredTable(HubTable):
    """A table that ``datasets`` downloads once and maps from its cache, for access to any row."""

    def __init__(self, repository: Repository) -> None:
        import datasets

        with repository.reached():
            folder = Path(repository.name)
            if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
                loaded = datasets.load_from_disk(folder)  # save_to_disk wrote it
            else:
                loaded = repository.opened(datasets.load_dataset)
            if isinstance(loaded, datasets.Dataset):
                loaded = {"train": loaded}
            self._splits = {str(name): _undecoded(split) for name, split in loaded.items()}

    @override
    def splits(self) -> list[str]:
        return list(self._splits)

    @override
    def size(self, split: str) -> int:
        return len(self._splits[split])

    @override
    def kinds(self, split: str) -> dict[str, str]:
        return _kinds(self._splits[split].features.arrow_schema)

    @override
    def rows(self, split: str, columns: Sequence[str]) -> Iterator[Row]:
        yield from self._splits[split].select_columns(list(columns))

    @override
    def cell(self, split: str, row: int, column: str) -> Any:
        return self._splits[split][row][column]

    @override
    def image_names(self, split: str, column: str) -> Iterator[Hashable]:
        rows = self._splits[split].select_columns([column]).with_format("arrow")
        for batch in rows.iter(_ROWS_AT_ONCE):
            yield from _image_names(batch.column(column))


def _kinds(schema: Any) -> dict[str, str]:
    """What the columns of an Arrow schema hold; ``datasets`` keeps images as bytes and path."""
    return {field.name: _kind(field.type) for field in schema}


def _kind(type_: Any) -> str:
    import pyarrow.types as are

    if are.is_struct(type_) and _fields(type_) == {"bytes", "path"}:
        return "image"
    if are.is_binary(type_) or are.is_large_binary(type_):
        return "image"
    if are.is_list(type_) or are.is_large_list(type_):
        type_ = type_.value_type
    return "text" if are.is_string(type_) or are.is_large_string(type_) else "other"


def _fields(struct: Any) -> set[str]:
    return {struct.field(number).name for number in range(struct.num_fields)}


def _image_names(images: Any) -> list[Hashable]:
    """Names of an Arrow array of file names, or of images as bytes and path: path and size.

    The size tells files of one name in different folders apart, of which ``datasets`` keeps the
    name alone.
    """
    import pyarrow.compute as pc
    import pyarrow.types as are

    if are.is_string(images.type) or are.is_large_string(images.type):
        return images.to_pylist()
    fields = _fields(images.type) if are.is_struct(images.type) else set()
    if "path" not in fields:
        return [None] * len(images)
    paths, sizes = pc.struct_field(images, "path").to_pylist(), [0] * len(images)
    if "bytes" in fields:
        sizes = pc.binary_length(pc.struct_field(images, "bytes")).to_pylist()
    return [path and (path, size) for path, size in zip(paths, sizes, strict=True)]


def _undecoded(rows: Any) -> Any:
    """The dataset with images as the bytes of their files."""
    import datasets

    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


@dataclass(frozen=True)
class _RowGroup:
    """The rows that Parquet reads together."""

    file: str
    number: int
    first_row: int  # counted through all files of the split
    n_rows: int


class StreamedTable(HubTable):
    """Parquet files that are read from the Hub and not kept on disk.

    To read a cell, its whole row group is read. The last group stays in memory, so that cells in
    the order of the rows read each group once.
    """

    def __init__(self, repository: Repository) -> None:
        import datasets

        with repository.reached():
            builder = repository.opened(datasets.load_dataset_builder)
            files = {str(name): list(map(str, f)) for name, f in builder.config.data_files.items()}
        strange = [file for found in files.values() for file in found if ".parquet" not in file]
        if strange:
            raise InputError(
                f"dataset {repository.name!r} is not Parquet ({strange[0]}): it cannot be "
                "streamed; leave data.source.streaming out"
            )
        self._files = files
        self._groups = {name: list(_row_groups(found)) for name, found in files.items()}
        self._last: tuple[Any, Any] = (None, None)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": (None, None)}  # images are not sent to loader processes

    @override
    def splits(self) -> list[str]:
        return list(self._files)

    @override
    def size(self, split: str) -> int:
        return sum(group.n_rows for group in self._groups[split])

    @override
    def kinds(self, split: str) -> dict[str, str]:
        with _parquet(self._files[split][0]) as file:
            return _kinds(file.schema_arrow)

    @override
    def rows(self, split: str, columns: Sequence[str]) -> Iterator[Row]:
        for path in self._files[split]:
            with _parquet(path) as file:
                for batch in file.iter_batches(columns=list(columns)):
                    yield from batch.to_pylist()

    @override
    def cell(self, split: str, row: int, column: str) -> Any:
        groups = self._groups[split]
        group = groups[bisect.bisect_right(groups, row, key=lambda g: g.first_row) - 1]
        wanted, (last, cells) = (group, column), self._last
        if last != wanted:
            with _parquet(group.file) as file:
                cells = file.read_row_group(group.number, columns=[column]).column(column)
            self._last = wanted, cells
        return cells[row - group.first_row].as_py()

    @override
    def image_names(self, split: str, column: str) -> Iterator[Hashable]:
        import pyarrow.types as are

        for path in self._files[split]:
            with _parquet(path) as file:
                type_ = file.schema_arrow.field(column).type
                if are.is_binary(type_) or are.is_large_binary(type_):
                    yield from [None] * file.metadata.num_rows
                    continue
                leaf = f"{column}.path" if are.is_struct(type_) else column
                for batch in file.iter_batches(columns=[leaf]):
                    yield from _image_names(batch.column(column))


def _row_groups(files: Sequence[str]) -> Iterator[_RowGroup]:
    first_row = 0
    for path in files:
        with _parquet(path) as file:
            for number in range(file.num_row_groups):
                n_rows = file.metadata.row_group(number).num_rows
                yield _RowGroup(path, number, first_row, n_rows)
                first_row += n_rows


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    """An open Parquet file, local or at an address that fsspec can read."""
    import fsspec
    import pyarrow.parquet as pq

    try:
        with fsspec.open(path, "rb") as raw, pq.ParquetFile(raw) as file:
            yield file
    except (OSError, ValueError) as error:  # pyarrow's errors are one of these
        raise InputError(f"{path} cannot be read as Parquet: {one_line(error)}") from error
