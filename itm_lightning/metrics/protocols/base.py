"""What every protocol is: a gallery in, the field's scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.part import Part
from itm_lightning.similarity.base import Similarity

Layout = Mapping[int, Sequence[int]]
"""Image id → its caption ids; photos and captions in the dataset's order.

The gallery of several processes is in another order.
"""


@dataclass(frozen=True)
class Evaluation:
    """What was scored, and the scores.

    Attributes:
        scores: those of :func:`itm_lightning.metrics.recall_from_ranks` under every protocol, and
            a protocol's own.
        images: how many were ranked, over all folds.
        texts: how many were ranked, over all folds.
        texts_per_image: the fewest and the most that a photo kept.
        queries: how many, by direction.
        models: how many models' scores were averaged.
    """

    scores: dict[str, float]
    images: int
    texts: int
    texts_per_image: tuple[int, int]
    queries: dict[str, int]
    models: int = 1


class Protocol(Part, ABC):
    """Decides what is ranked against what, and which scores are reported.

    A subclass writes :meth:`scores`, and sets the attributes where it is for one dataset.

    Attributes:
        images: how many photos the protocol is defined over; ``None`` where any number will do.
        texts_per_image: the first so many of each photo are kept; ``None`` keeps all.
    """

    images: int | None = None
    texts_per_image: int | None = None

    def check(self, layout: Layout) -> None:
        """Checks before any long work that the protocol is for such a split.

        Raises:
            InputError: it is not; the message says what was expected, what there is, and the mend.
        """
        if self.texts_per_image is not None and self.texts_per_image < 1:
            raise InputError(
                f"protocol.texts_per_image is {self.texts_per_image}; it must be at least 1, "
                "or null for all"
            )
        if self.images is not None and len(layout) != self.images:
            raise InputError(
                f"protocol {type(self).__name__} is over {self.images} photos, and here are "
                f"{len(layout)}: give it the whole split that it was made for, or choose "
                "--protocol Retrieval, which takes any number"
            )

    def evaluate(self, similarity: Similarity, gallery: Gallery, layout: Layout) -> Evaluation:
        """Scores a gallery, without ever holding the whole score matrix.

        Args:
            similarity: the head.
            gallery: with ``text_ids``, in any order.
            layout: of the split. Photos that the gallery lacks are passed over.

        Raises:
            InputError: as :meth:`check` of what the gallery holds; the gallery has no caption ids;
                or see :func:`itm_lightning.ranking.rank`.
        """
        there = set(gallery.image_ids.tolist())
        layout = {image: texts for image, texts in layout.items() if image in there}
        self.check(layout)
        kept = {image: texts[: self.texts_per_image] for image, texts in layout.items()}
        gallery = part_of(gallery, kept)
        counts = gallery.text_image_ids.unique(return_counts=True)[1]
        return Evaluation(
            scores=self.scores(similarity, gallery, kept),
            images=len(gallery.images),
            texts=len(gallery.texts),
            texts_per_image=(int(counts.min()), int(counts.max())),
            queries=self.queries(gallery),
        )

    @abstractmethod
    def scores(self, similarity: Similarity, gallery: Gallery, layout: Layout) -> dict[str, float]:
        """The scores of what is kept, by name: percentages and ranks."""

    def queries(self, gallery: Gallery) -> dict[str, int]:
        """How many queries are asked of what is kept, by direction."""
        return {"i2t": len(gallery.text_image_ids.unique()), "t2i": len(gallery.texts)}


def part_of(gallery: Gallery, layout: Layout) -> Gallery:
    """The photos and captions of the gallery that the layout names."""
    if gallery.text_ids is None:
        raise InputError("a protocol knows captions by their ids: pass text_ids to update")
    kept_images = _among(gallery.image_ids, list(layout))
    kept_texts = _among(gallery.text_ids, [text for texts in layout.values() for text in texts])
    if kept_images.all() and kept_texts.all():
        return gallery  # no copy of what may be gigabytes
    return Gallery(
        images=gallery.images[kept_images],
        texts=gallery.texts[kept_texts],
        image_ids=gallery.image_ids[kept_images],
        text_image_ids=gallery.text_image_ids[kept_texts],
        text_ids=gallery.text_ids[kept_texts],
    )


def as_floats(table: Mapping[str, Tensor]) -> dict[str, float]:
    """A table of scalars as Python numbers."""
    return {key: float(value) for key, value in table.items()}


def _among(ids: Tensor, wanted: list[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(wanted, dtype=torch.int64, device=ids.device))
