"""Protocol: decides what is ranked against what, and which scores follow from the ranks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.functional import recall_from_ranks
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.minimal_pairs import minimal_pair_correct, percent_correct
from itm_lightning.part import Part
from itm_lightning.ranking import Ranks, rank
from itm_lightning.similarity.base import Similarity


@dataclass(frozen=True)
class Evaluation:
    """What was scored, and the scores.

    Attributes:
        scores: by name: those of :func:`itm_lightning.metrics.recall_from_ranks`, what a protocol
            adds, and ``pairs_accuracy`` where there are minimal pairs.
        per_query: what became of every query, on the CPU; all scores follow from it, see
            :meth:`Protocol.per_query` and :meth:`Protocol.summarise`.
        images: how many were ranked, over all folds and with those that have no text.
        texts: how many were ranked, over all folds.
        texts_per_image: the fewest and the most ranked texts of an image.
        queries: how many, by direction.
        models: how many models' scores were averaged.
        hub_correction: where one was asked for, plain values: ``correction``, its config; ``bank``,
            how many ``images`` and ``texts``; ``scores``, the corrected ones, by the same names;
            and :func:`~itm_lightning.metrics.hubness.hubness`, ``before`` and ``after``.
    """

    scores: dict[str, float]
    per_query: dict[str, Tensor]
    images: int
    texts: int
    texts_per_image: tuple[int, int]
    queries: dict[str, int]
    models: int = 1
    hub_correction: dict[str, Any] | None = None


class Protocol(Part, ABC):
    """Decides what is ranked against what, and which scores follow from the ranks.

    This base class ranks everything against everything. A subclass overrides :meth:`per_query`
    and :meth:`scores`, or sets the attributes where it is for one dataset.

    In every method ``truth`` is in the dataset's order; a gallery may be in another one.

    Attributes:
        images: how many images the protocol is defined over; ``None`` means any number.
        texts_per_image: how many texts of each image are kept, the first; ``None`` keeps all.
        monitor: the score by which a fit chooses its checkpoint, of a protocol that also scores the
            validation epochs of a fit. ``None`` where these are plain retrieval, chosen by rsum.
        reads_train: whether :meth:`evaluate` is to be given the training split, other than in the
            validation epochs of a fit.
    """

    images: int | None = None
    texts_per_image: int | None = None
    monitor: str | None = None
    reads_train: bool = False

    def check(self, truth: GroundTruth) -> None:
        """Checks before any long work that the protocol is for such a split.

        Raises:
            InputError: it is not; the message says what was expected, what there is, and the mend.
        """
        images = len(truth.texts_of_image)
        if self.images is not None and images != self.images:
            raise InputError(
                f"protocol {type(self).__name__} is over {self.images} images, but there are "
                f"{images}: give it the whole split that it was made for, or choose "
                "--protocol Retrieval, which takes any number"
            )

    def check_head(self, similarity: Similarity) -> None:
        """Checks before any long work that the protocol can score with such a head.

        Raises:
            InputError: it cannot.
        """

    def evaluate(
        self,
        similarity: Similarity,
        gallery: Gallery,
        truth: GroundTruth,
        train: tuple[Gallery, GroundTruth] | None = None,
    ) -> Evaluation:
        """Scores a gallery, without ever holding the whole score matrix; a collective.

        Args:
            similarity: the head.
            gallery: with ``text_ids``, in any order.
            truth: of the split. Images that the gallery lacks are left out. Minimal pairs (see
                :func:`itm_lightning.metrics.pairs_accuracy`) are those of the whole gallery under
                every protocol.
            train: the training split, and what is right in it, for a protocol that reads it.

        Raises:
            InputError: as :meth:`check` of what the gallery holds; the gallery has no text ids;
                or see :func:`itm_lightning.ranking.rank`.
        """
        present = set(gallery.image_ids.tolist())
        there = {i: texts for i, texts in truth.texts_of_image.items() if i in present}
        self.check(replace(truth, texts_of_image=there))
        kept = {image: texts[: self.texts_per_image] for image, texts in there.items()}
        ranked = restrict(gallery, kept)
        per_query = self.per_query(similarity, ranked, replace(truth, texts_of_image=kept))
        queries = {
            name.removesuffix("_ids"): len(ids)
            for name, ids in per_query.items()
            if name.endswith("_ids")
        }
        if truth.minimal_pairs:
            per_query |= _pairs_per_query(similarity, gallery, truth.minimal_pairs)
        per_query = {name: values.cpu() for name, values in per_query.items()}
        counts = _texts_per_image(ranked)
        return Evaluation(
            scores=self.summarise(per_query),
            per_query=per_query,
            images=len(ranked.images),
            texts=len(ranked.texts),
            texts_per_image=(int(counts.min()), int(counts.max())),
            queries=queries,
        )

    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        """What becomes of every query of the texts and images that are kept; a collective.

        Returns:
            ``i2t_ids`` and ``i2t_ranks``, both ``(n_queries,)`` int64: the ids of the images that
            ask, and their ranks as :class:`itm_lightning.ranking.Ranks` defines them; the same of
            the texts as ``t2i_…``; and what a protocol adds. Row i of all arrays that share a
            direction belongs to one query, and each direction has an array ``<direction>_ids``.
        """
        sides = gallery.images, gallery.texts, gallery.image_ids, gallery.text_image_ids
        return ranks_by_id(gallery, rank(similarity, *sides))

    def summarise(self, per_query: Mapping[str, Tensor]) -> dict[str, float]:
        """Every reported score, from the arrays of :attr:`Evaluation.per_query` and nothing else.

        They may come from a file that an evaluation left: neither the model nor the data is read.
        """
        scores = {name: float(value) for name, value in self.scores(per_query).items()}
        if "pairs_correct" in per_query:
            scores["pairs_accuracy"] = percent_correct(per_query["pairs_correct"])
        return scores

    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The protocol's scores by name, float64 scalars: percentages and ranks."""
        return recall_from_ranks(per_query["i2t_ranks"], per_query["t2i_ranks"])


def restrict(gallery: Gallery, texts_of_image: Mapping[int, Sequence[int]]) -> Gallery:
    """The images and texts of the gallery that ``texts_of_image`` names.

    Raises:
        InputError: the gallery has no text ids.
    """
    if gallery.text_ids is None:
        raise InputError("a protocol tells texts apart by their ids: pass text_ids to update")
    text_ids = [text for texts in texts_of_image.values() for text in texts]
    kept_images = _is_among(gallery.image_ids, list(texts_of_image))
    kept_texts = _is_among(gallery.text_ids, text_ids)
    if kept_images.all() and kept_texts.all():
        return gallery  # no copy of what may be gigabytes
    return Gallery(
        images=gallery.images[kept_images],
        texts=gallery.texts[kept_texts],
        image_ids=gallery.image_ids[kept_images],
        text_image_ids=gallery.text_image_ids[kept_texts],
        text_ids=gallery.text_ids[kept_texts],
    )


def ranks_by_id(gallery: Gallery, ranks: Ranks) -> dict[str, Tensor]:
    """The ranks of a gallery and the ids of the queries, as :meth:`Protocol.per_query` does."""
    assert gallery.text_ids is not None  # restrict refuses such a gallery
    asks = torch.isin(gallery.image_ids, gallery.text_image_ids)
    return {
        "i2t_ids": gallery.image_ids[asks],
        "i2t_ranks": ranks.i2t,
        "t2i_ids": gallery.text_ids,
        "t2i_ranks": ranks.t2i,
    }


def _pairs_per_query(
    similarity: Similarity, gallery: Gallery, minimal_pairs: Mapping[int, int]
) -> dict[str, Tensor]:
    """``pairs_text_ids`` and ``pairs_correct``; nothing where the gallery has no whole pair."""
    assert gallery.text_ids is not None  # restrict refuses such a gallery
    rows, correct = minimal_pair_correct(similarity, gallery, minimal_pairs)
    if not len(rows):
        return {}
    text_ids = gallery.text_ids[rows.to(gallery.text_ids.device)]
    return {"pairs_text_ids": text_ids, "pairs_correct": correct}


def _texts_per_image(gallery: Gallery) -> Tensor:
    """``(N,)`` int64."""
    _, rows = torch.cat([gallery.image_ids, gallery.text_image_ids]).unique(return_inverse=True)
    return rows[len(gallery.image_ids) :].bincount(minlength=len(gallery.image_ids))


def _is_among(ids: Tensor, wanted: list[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(wanted, dtype=torch.int64, device=ids.device))
