"""Flickr30k: images and captions in the rows of a repository on the Hugging Face Hub."""

from __future__ import annotations

from PIL import Image
from typing_extensions import override

from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.data.source import Record
from itm_lightning.data.sources.hub import HubSource
from itm_lightning.data.sources.hub_tables import Repository
from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.utils.images import check_decodes, image_in, opened


@register("source")
class Flickr30k(HubSource):
    """Flickr30k (Young et al. 2014), read by ``datasets``: each row has an image and its captions.

    Repositories that fit, with the arguments that differ from the defaults:

    - ``nlphuji/flickr30k``: all rows in one Hub split, Karpathy's split in a column. The repository
      itself holds a loading script, which ``datasets`` no longer runs; its revision
      ``refs/convert/parquet`` holds the same rows as Parquet.
    - ``AnyModal/flickr30k``: ``revision: main``, ``text_column: original_alt_text``.
    - a local folder of either's Parquet files: ``repository: path/to/folder``.
    - COCO or others with images in the rows and with Hub splits for train, val and test:
      ``revision: main``, ``split_column: null``, and the names of their columns.

    Args:
        repository: repository id on the Hub, or a local folder of Parquet files.
        revision: branch, tag or commit; unused for a local folder.
        config: which of the repository's configurations, where it has several.
        image_column: the column of images: ``datasets``' images, or the bytes of their files.
        text_column: the column of captions, one or a list of them.
        id_column: the column of image ids; ``null`` numbers them.
        text_id_column: the column of caption ids; ``null`` numbers them.
        split_column: the column that says train, val or test; ``null`` uses the Hub's splits.
        splits: which names count as ``train``, ``val`` and ``test``, in place of the usual ones
            (``{"test": ["evaluation"]}``).
        texts_per_image: keep only so many first captions of each image; all by default.
        streaming: read images from the Hub in the order of the rows and keep nothing on disk;
            training shuffles through a buffer. Images are then not checked beforehand. The object
            is a :class:`StreamedFlickr30k`.
    """

    def __init__(
        self,
        repository: str = "nlphuji/flickr30k",
        revision: str | None = "refs/convert/parquet",
        config: str | None = None,
        image_column: str = "image",
        text_column: str = "caption",
        id_column: str | None = "img_id",
        text_id_column: str | None = "sentids",
        split_column: str | None = "split",
        splits: dict[str, list[str]] | None = None,
        texts_per_image: int | None = None,
        *,
        streaming: bool = False,
    ) -> None:
        columns = {
            "image_column": image_column,
            "text_column": text_column,
            "id_column": id_column,
            "text_id_column": text_id_column,
            "split_column": split_column,
        }
        at = Repository(repository, revision, config)
        super().__init__(at, columns, splits, texts_per_image, streaming)
        self.image_column = image_column

    @override
    def text_columns(self) -> list[str]:
        return [column for column in super().text_columns() if column != self.image_column]

    @override
    def image(self, record: Record) -> Image.Image:
        return image_in(self.encoded(record), self._image_name(record))

    @override
    def verify(self, record: Record) -> None:
        name = self._image_name(record)
        with opened(self.encoded(record), name) as image:
            check_decodes(image, name)

    def encoded(self, record: Record) -> bytes:
        """The bytes of the record's image file."""
        hub_split, _, row = record.location.rpartition("/")
        cell = self.table.cell(hub_split, int(row), self.image_column)
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise InputError(
                f"photo {self._image_name(record)} is missing: column {self.image_column!r} "
                "(data.source.image_column) holds no bytes there"
            )
        return data

    def _image_name(self, record: Record) -> str:
        return f"{record.location} of {self.repository.name}"


class StreamedFlickr30k(Flickr30k, StreamedSource):
    """The class of ``Flickr30k(streaming=True)``."""

    @override
    def verify(self, record: Record) -> None:
        """Checks nothing: that would read the whole stream. A bad image stops the run."""


Flickr30k.streamed = StreamedFlickr30k
