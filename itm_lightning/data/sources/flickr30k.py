"""Flickr30k: images and captions in the rows of a repository on the Hugging Face Hub."""

from __future__ import annotations

from itm_lightning.data.sources.hugging_face import HuggingFace, StreamedHuggingFace
from itm_lightning.errors import Seed, Size
from itm_lightning.registry import register


@register("source")
class Flickr30k(HuggingFace):
    """Flickr30k (Young et al. 2014), read by ``datasets``: each row has an image and its captions.

    Repositories that fit, with the arguments that differ from the defaults:

    - ``nlphuji/flickr30k``: all rows in one Hub split, Karpathy's split in a column. The repository
      itself holds a loading script, which ``datasets`` no longer runs; its revision
      ``refs/convert/parquet`` holds the same rows as Parquet.
    - ``AnyModal/flickr30k``: ``revision: main``, ``text_column: original_alt_text``.
    - a local folder of either's Parquet files: ``repository: path/to/folder``.
    - COCO or others with images in the rows and with Hub splits for train, val and test:
      ``revision: main``, ``split_column: null``, and the names of their columns.

    Arguments as of :class:`HuggingFace`.
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
        texts_per_image: Size | None = None,
        seed: Seed = 0,
        *,
        streaming: bool = False,
        allow_outside: bool = False,
    ) -> None:
        super().__init__(
            *(repository, revision, config),
            *(image_column, text_column, id_column, text_id_column, split_column),
            *(splits, texts_per_image, seed),
            streaming=streaming,
            allow_outside=allow_outside,
        )


class StreamedFlickr30k(Flickr30k, StreamedHuggingFace):
    """The class of ``Flickr30k(streaming=True)``."""


Flickr30k.streamed = StreamedFlickr30k
