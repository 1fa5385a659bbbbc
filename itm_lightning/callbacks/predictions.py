"""What ``predict`` writes: what each query retrieved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only
from typing_extensions import override

from itm_lightning.data import Record
from itm_lightning.evaluating import OwnQueries, RetrievalModule, Retrieved
from itm_lightning.ranking import Neighbours
from itm_lightning.utils.atomic_files import replacing

Line = dict[str, Any]


class RetrievalWriter(Callback):
    """Writes what ``predict`` retrieved: a JSON line for each query, of one kind::

        {"query": {"kind": "text", "id": 7, "text": "two dogs"},
         "results": [{"id": 3, "image": "a.jpg", "score": 0.81, "is_match": true}, ...],
         "match": [3], "rank": 1}

    An image's query has ``image`` where this one has ``text``, and texts as results; ``match`` are
    the ids of the right answers and ``rank`` the place of the best of them, from 1, ties counted
    against it. What is not known is ``null``: of an image without texts the rank; of the user's own
    queries ``id``, ``is_match``, ``match`` and ``rank``.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        module: RetrievalModule = pl_module
        assert module.retrieved is not None  # the epoch before this call leaves it
        records = module.data.records(module.data.predict_split)
        with replacing(self.path) as file:
            for line in prediction_lines(module.retrieved, records, module.own_queries):
                file.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())
        print(f"wrote {self.path}")


def prediction_lines(
    found: Retrieved, records: Sequence[Record], own: OwnQueries
) -> Iterator[Line]:
    """Each query, first all images and then all texts, with its results.

    Args:
        found: what was retrieved.
        records: of the split that is the gallery.
        own: the queries, if they are the user's own.
    """
    gallery = found.gallery
    assert gallery.text_ids is not None  # every batch of a data module has them
    by_id = {record.image_id: record for record in records}
    rows = zip(gallery.text_ids.tolist(), gallery.text_image_ids.tolist(), strict=True)
    images = [{"id": i, "image": by_id[i].location} for i in gallery.image_ids.tolist()]
    texts = [{"id": t, "text": _text_of(by_id[i], t)} for t, i in rows]
    if found.ranks is None:
        queries = [{"id": None, "image": str(path)} for path in own.images]
        yield from _lines(queries, texts, found.i2t)
        yield from _lines([{"id": None, "text": text} for text in own.texts], images, found.t2i)
        return
    matches = [by_id[image["id"]].text_ids for image in images]
    places = iter(found.ranks.i2t.tolist())  # of images that have texts
    ranks = [next(places) if match else None for match in matches]
    yield from _lines(images, texts, found.i2t, matches, ranks)
    matches = [(image_id,) for image_id in gallery.text_image_ids.tolist()]
    yield from _lines(texts, images, found.t2i, matches, found.ranks.t2i.tolist())


def _text_of(record: Record, text_id: int) -> str:
    return record.texts[record.text_ids.index(text_id)]


def _lines(
    queries: Sequence[Line],
    answers: Sequence[Line],
    top: Neighbours | None,
    matches: Sequence[Sequence[int]] | None = None,
    ranks: Sequence[int | None] | None = None,
) -> Iterator[Line]:
    """One side's queries with the answers of the other; without matches, own ones."""
    if top is None:
        return
    found = zip(queries, top.indices.tolist(), top.scores.tolist(), strict=True)
    for number, (query, rows, scores) in enumerate(found):
        match = None if matches is None else list(matches[number])
        results = [
            {
                **answers[row],
                "score": round(score, 6),
                "is_match": None if match is None else answers[row]["id"] in match,
            }
            for row, score in zip(rows, scores, strict=True)
        ]
        yield {
            "query": {"kind": "text" if "text" in query else "image", **query},
            "results": results,
            "match": match,
            "rank": None if ranks is None else ranks[number],
        }
