"""What ``predict`` writes: what each image and each text retrieved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only
from typing_extensions import override

from itm_lightning.evaluating import RetrievalModule
from itm_lightning.ranking import Neighbours


class RetrievalWriter(Callback):
    """Writes what ``predict`` retrieved: a JSON line for each image and each text."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        module: RetrievalModule = pl_module
        assert module.retrieved is not None  # the epoch before this call leaves it
        gallery, top = module.retrieved
        assert gallery.text_ids is not None  # every batch of a data module has them
        records = module.data.records(module.data.predict_split)
        locations = {record.image_id: record.location for record in records}
        texts = {
            text_id: text
            for record in records
            for text_id, text in zip(record.text_ids, record.texts, strict=True)
        }
        image_names = [locations[i] for i in gallery.image_ids.tolist()]
        text_names = [texts[i] for i in gallery.text_ids.tolist()]
        with self.path.open("w", encoding="utf-8") as lines:
            for query, found in zip(image_names, _named(top.i2t, text_names), strict=True):
                lines.write(json.dumps({"image": query, "texts": found}) + "\n")
            for query, found in zip(text_names, _named(top.t2i, image_names), strict=True):
                lines.write(json.dumps({"text": query, "images": found}) + "\n")
        print(f"wrote {self.path}")


def _named(top: Neighbours, names: list[str]) -> list[list[dict[str, Any]]]:
    return [
        [{"name": names[i], "score": round(s, 6)} for i, s in zip(row, scores, strict=True)]
        for row, scores in zip(top.indices.tolist(), top.scores.tolist(), strict=True)
    ]
