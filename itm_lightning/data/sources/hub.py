"""HubSource: records from the rows of a repository on the Hugging Face Hub."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

from typing_extensions import override

from itm_lightning.data.records import well_formed
from itm_lightning.data.source import SPLITS, ImageSource, Record
from itm_lightning.data.sources.hub_tables import HubTable, Repository, StoredTable, StreamedTable
from itm_lightning.data.sources.tables import Row, SplitNames, as_texts, no_column
from itm_lightning.errors import InputError, Size

Columns = dict[str, str | list[str] | None]
"""Column by flag; several where a flag takes a list."""
Located = tuple[str, list[Row]]
"""The rows of one image, and the location of the first."""


class HubSource(ImageSource):
    """A dataset in a repository on the Hub, with texts of one image in each row.

    Args:
        repository: where the rows are.
        columns: column by flag: ``text_column``; ``id_column`` and ``text_id_column``, ``None`` to
            number images and texts; ``split_column``, ``None`` to use the Hub's splits; and the
            columns that the subclass adds.
        splits: which names count as ``train``, ``val`` and ``test``, in place of the usual ones.
        texts_per_image: keep only so many first texts of each image; ``None`` keeps all.
        streaming: read the rows from the Hub instead of downloading them first.
    """

    streamed: ClassVar[type[HubSource] | None] = None
    """The class of ``streaming=True``, where the images are then a stream."""

    def __new__(cls, *args: Any, **kwargs: Any) -> HubSource:
        """Makes an object of the class ``streamed`` for a stream, as ``Path()`` a ``PosixPath``."""
        made = cls.streamed if cls.streamed and kwargs.get("streaming") else cls
        return cast(HubSource, super().__new__(made, *args, **kwargs))

    def __init__(
        self,
        repository: Repository,
        columns: Columns,
        splits: dict[str, list[str]] | None,
        texts_per_image: Size | None,
        streaming: bool,
    ) -> None:
        self.repository = repository
        self.columns: Columns = columns
        self.splits = SplitNames(splits)
        self.texts_per_image = texts_per_image
        self.streaming = streaming
        self._records: dict[str, tuple[Record, ...]] = {}

    @functools.cached_property
    def table(self) -> HubTable:
        """The rows; opened, and their columns checked, at the first access."""
        table = (StreamedTable if self.streaming else StoredTable)(self.repository)
        self.columns = self.found_columns(table)
        there = table.kinds(table.splits()[0])
        for flag, columns in self.columns.items():
            for column in _listed(columns):
                if column not in there:
                    raise InputError(no_column(self._name, column, f"data.source.{flag}", there))
        return table

    def found_columns(self, table: HubTable) -> Columns:
        """The columns that were given; a subclass may find those that were not."""
        return self.columns

    @override
    def records(self, split: str) -> Sequence[Record]:
        if split not in self._records:
            for name, rows in self.rows_of(split).items():
                text_ids = itertools.count()
                made = [self._record(k, *row, text_ids) for k, row in enumerate(rows)]
                self._records[name] = well_formed(made, self._name)
        return self._records[split]

    def text_columns(self) -> list[str]:
        """The columns that records are made of."""
        return list(dict.fromkeys(itertools.chain(*map(_listed, self.columns.values()))))

    def completed(self, record: Record, row: Row) -> Record:
        """The record, to which a subclass may add values of the row; its location is the row's."""
        return record

    @property
    def _name(self) -> str:
        return f"dataset {self.repository.name!r}"

    def rows_of(self, split: str) -> dict[str, list[Located]]:
        """The rows of a split, and of those that are read with it."""
        hub_splits = self.table.splits()
        column = cast("str | None", self.columns["split_column"])
        if column is None:
            sizes = {name: self.table.size(name) for name in hub_splits}
            self.splits.check(sizes, self._name, may_have_others=True)
            names = [name for name in hub_splits if name in self.splits[split]]
            return {split: [image for name in names for image in self.located(name)]}
        images = [image for name in hub_splits for image in self.located(name)]
        for location, rows in images:
            if len(splits := {str(row[column]) for row in rows}) > 1:
                raise InputError(
                    f"photo {location} of {self._name} has rows in the splits "
                    f"{', '.join(sorted(splits))}: keep it in one of them"
                )
        self.splits.check(Counter(str(rows[0][column]) for _, rows in images), self._name)
        return {
            name: [image for image in images if str(image[1][0][column]) in self.splits[name]]
            for name in SPLITS
        }

    def located(self, hub_split: str) -> Iterator[Located]:
        """The images of a Hub split: each row is one."""
        for number, row in enumerate(self.table.rows(hub_split, self.text_columns())):
            yield f"{hub_split}/{number}", [row]

    def _record(
        self, position: int, location: str, rows: Sequence[Row], text_ids: Iterator[int]
    ) -> Record:
        texts: list[str] = []
        ids: list[Any] = []
        for row in rows:
            new = [t for c in _listed(self.columns["text_column"]) for t in as_texts(row[c])]
            own = self._ids(row, "text_id_column")
            if own is None:
                own = list(itertools.islice(text_ids, len(new)))
            if len(own) != len(new):
                raise InputError(
                    f"row {location} of {self._name} has {len(new)} captions but {len(own)} ids: "
                    "set data.source.text_id_column to null to number them"
                )
            texts += new
            ids += own
        kept = slice(self.texts_per_image)
        image_ids = self._ids(rows[0], "id_column") or [position]
        record = Record(image_ids[0], tuple(texts[kept]), tuple(ids[kept]), location)
        return self.completed(record, rows[0])

    def _ids(self, row: Row, flag: str) -> list[Any] | None:
        """The cell's id or ids, which :func:`well_formed` checks; ``None`` without a column."""
        column = cast("str | None", self.columns[flag])
        if column is None:
            return None
        return row[column] if isinstance(row[column], list) else [row[column]]


def _listed(columns: str | list[str] | None) -> list[str]:
    """The columns of one flag."""
    return columns if isinstance(columns, list) else [columns] if columns else []
