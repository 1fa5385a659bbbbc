"""JudgedCoco: COCO 5K, with further correct answers than an image's own texts."""

from __future__ import annotations

import functools
import importlib.util
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.precision import ties_against_the_model
from itm_lightning.metrics.protocols.base import ranks_by_id
from itm_lightning.metrics.protocols.coco_5k import Coco5K
from itm_lightning.ranking import Neighbours, rank_and_top_k
from itm_lightning.similarity.base import Similarity

_PACKAGE = "eccv_caption"


@dataclass(frozen=True)
class Judgements:
    """COCO ids of every query's correct answers.

    Attributes:
        i2t: image id → text ids.
        t2i: text id → image ids.
    """

    i2t: Mapping[int, frozenset[int]]
    t2i: Mapping[int, frozenset[int]]

    @property
    def most(self) -> int:
        """The most correct answers of a query."""
        return max(len(answers) for way in (self.i2t, self.t2i) for answers in way.values())


@functools.cache
def judgements(name: Literal["eccv", "cxc"]) -> Judgements:
    """The judgements of ECCV Caption (Chun et al. 2022) or of CxC (Parekh et al. 2021).

    Raises:
        InputError: the package is not installed.
    """
    # Only its files are read: importing it would need ujson and tqdm too.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise InputError(
            f"this protocol's annotation comes with the package {_PACKAGE}, which is not "
            f"installed: pip install {_PACKAGE}"
        )
    data = Path(package.origin).parent / "data"
    return Judgements(
        i2t=_read(data / f"{name}_image_to_caption.json"),
        t2i=_read(data / f"{name}_caption_to_image.json"),
    )


def _read(path: Path) -> dict[int, frozenset[int]]:
    table = json.loads(path.read_text(encoding="utf-8"))
    return {int(query): frozenset(map(int, answers)) for query, answers in table.items()}


_DEEPEST_K = 10


class JudgedCoco(Coco5K):
    """The scores of :class:`Coco5K`, and scores by relevance judgements of COCO's test split.

    A subclass names the judgements and writes :meth:`judged_scores`. What it adds is named
    ``<annotation>_<direction>_…``. The source must give COCO's own image and text ids.
    """

    annotation: Literal["eccv", "cxc"]

    @abstractmethod
    def judged_scores(self, hits: Tensor, relevant: Tensor) -> dict[str, Tensor]:
        """Scores of one direction, in percent.

        Args:
            hits: ``(n_queries, depth)`` bool, whether the answer at each place is correct.
            relevant: ``(n_queries,)`` int64, how many correct answers each query has.
        """

    @override
    def check(self, truth: GroundTruth) -> None:
        super().check(truth)
        judged, texts_of_image = judgements(self.annotation), truth.texts_of_image
        kept_texts = {
            text for texts in texts_of_image.values() for text in texts[: self.texts_per_image]
        }
        sides = ("image", judged.i2t, texts_of_image.keys()), ("text", judged.t2i, kept_texts)
        for kind, queries, there in sides:
            missing = queries.keys() - there
            if missing:
                raise InputError(
                    f"protocol {type(self).__name__} needs COCO's image and caption ids: "
                    f"{len(missing)} of the {len(queries)} {kind} ids of its queries are not "
                    f"in this split, {min(missing)} among them; take a source that gives COCO's "
                    "ids, and all five texts of an image"
                )

    @override
    def per_query(
        self, similarity: Similarity, gallery: Gallery, truth: GroundTruth
    ) -> dict[str, Tensor]:
        """Adds what became of the judged queries of a direction (here i2t), all on the CPU.

        ``<annotation>_i2t_ids (n,)`` int64, the queries' ids; ``…_hits (n, depth)`` bool and
        ``…_relevant (n,)`` int64, see :meth:`judged_scores`.
        """
        judged = judgements(self.annotation)
        # So deep that answers tied with the last one are too low to count, whatever their order.
        depth = max(_DEEPEST_K, judged.most) + judged.most
        images, texts = gallery.image_ids, gallery.text_ids
        assert texts is not None  # evaluate refuses such a gallery
        sides = gallery.images, gallery.texts, images, gallery.text_image_ids
        ranks, top = rank_and_top_k(similarity, *sides, depth)
        return (
            ranks_by_id(gallery, ranks)
            | _judged_per_query(f"{self.annotation}_i2t", top.i2t, images, texts, judged.i2t)
            | _judged_per_query(f"{self.annotation}_t2i", top.t2i, texts, images, judged.t2i)
        )

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table = super().scores(per_query)
        for direction in (f"{self.annotation}_i2t", f"{self.annotation}_t2i"):
            hits, relevant = per_query[f"{direction}_hits"], per_query[f"{direction}_relevant"]
            scores = self.judged_scores(hits, relevant)
            table |= {f"{direction}_{name}": score for name, score in scores.items()}
        return table


def _judged_per_query(
    direction: str,
    found: Neighbours,
    query_ids: Tensor,
    answer_ids: Tensor,
    judged: Mapping[int, frozenset[int]],
) -> dict[str, Tensor]:
    row = {query: i for i, query in enumerate(query_ids.tolist())}
    rows = torch.tensor([row[query] for query in judged], device=query_ids.device)
    answers = answer_ids[found.indices[rows]].tolist()
    correct = [
        [answer in wanted for answer in line]
        for line, wanted in zip(answers, judged.values(), strict=True)
    ]
    return {
        f"{direction}_ids": query_ids[rows],
        f"{direction}_hits": ties_against_the_model(
            found.scores[rows].cpu(), torch.tensor(correct)
        ),
        f"{direction}_relevant": torch.tensor([len(wanted) for wanted in judged.values()]),
    }
