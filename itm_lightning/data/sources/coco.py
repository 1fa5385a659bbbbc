"""Coco: a table of captions on the Hugging Face Hub, and a local folder of COCO's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from itm_lightning.data.source import Record
from itm_lightning.data.sources.coco_captions import CocoObjects
from itm_lightning.data.sources.hub import Columns, HubSource
from itm_lightning.data.sources.hub_tables import Repository
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.data.sources.tables import Row
from itm_lightning.errors import InputError, Size
from itm_lightning.registry import register


@register("source")
class Coco(ImageFileSource, HubSource):
    """COCO in Karpathy's split (Karpathy & Fei-Fei 2015), from a table read by ``datasets``.

    The repository holds captions and file names, but no images: unpack COCO's 2014 archives for
    them, side by side. Image and caption ids are COCO's own, which ECCV Caption and CxC use too.

    Repositories that fit, with the arguments that differ from the defaults:

    - ``yerevann/coco-karpathy``: Hub splits train, restval, validation and test; ``restval`` counts
      as train.
    - a local folder of its Parquet files: ``repository: path/to/folder``.

    For a repository with images in its rows take :class:`HuggingFace`.

    Args:
        images: the folder that holds ``train2014`` and ``val2014``.
        repository: repository id on the Hub, or a local folder of Parquet files.
        revision: branch, tag or commit; unused for a local folder.
        config: which of the repository's configurations, where it has several.
        folder_column: the column of the images' sub-folders; ``null`` where there are none.
        file_column: the column of file names.
        text_column: the column of captions, one or a list of them.
        id_column: the column of COCO's image ids.
        text_id_column: the column of caption ids; ``null`` numbers them.
        split_column: the column that says train, val or test; ``null`` uses the Hub's splits.
        splits: which names count as ``train``, ``val`` and ``test``, in place of the usual ones
            (``{"train": ["train"]}`` leaves ``restval`` out).
        texts_per_image: keep only so many first captions of each image; all by default. COCO's
            protocols keep 5.
        instances: COCO's ``instances_*.json``: labels and boxes in its 80 categories.
        streaming: read the table from the Hub and keep nothing on disk. The images are files in
            any case, and training shuffles all of them.
        allow_outside: whether image files may lie outside of ``images``: by ``..``, absolute paths
            or links.
    """

    def __init__(
        self,
        images: str,
        repository: str = "yerevann/coco-karpathy",
        revision: str | None = None,
        config: str | None = None,
        folder_column: str | None = "filepath",
        file_column: str = "filename",
        text_column: str = "sentences",
        id_column: str = "cocoid",
        text_id_column: str | None = "sentids",
        split_column: str | None = None,
        splits: dict[str, list[str]] | None = None,
        texts_per_image: Size | None = None,
        instances: list[str] | None = None,
        streaming: bool = False,
        allow_outside: bool = False,
    ) -> None:
        columns: Columns = {
            "folder_column": folder_column,
            "file_column": file_column,
            "text_column": text_column,
            "id_column": id_column,
            "text_id_column": text_id_column,
            "split_column": split_column,
        }
        at = Repository(repository, revision, config)
        super().__init__(at, columns, splits, texts_per_image, streaming)
        self.allow_outside = allow_outside
        self.images = Path(images)
        self.folder_column = folder_column
        self.file_column = file_column
        self.objects = CocoObjects([Path(path) for path in instances or ()])

    @property
    @override
    def image_folder(self) -> Path:
        return self.images

    @property
    @override
    def listing(self) -> str:
        return self.repository.name

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self.objects.class_names

    @override
    def records(self, split: str) -> Sequence[Record]:
        if not self.images.is_dir():
            raise InputError(f"image folder {self.images} is missing: set data.source.images")
        return super().records(split)

    @override
    def completed(self, record: Record, row: Row) -> Record:
        folder = Path(row[self.folder_column] if self.folder_column else "")
        located = replace(record, location=str(folder / row[self.file_column]))
        return self.objects.add_to(located, record.image_id)
