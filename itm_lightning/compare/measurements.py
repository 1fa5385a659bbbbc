"""What a variant costs and does, measured on the spot from its first seed's best checkpoint."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itm_lightning.compare.runs import Outcome, Variant
from itm_lightning.data import ITMDataModule, Source
from itm_lightning.errors import InputError
from itm_lightning.evaluating import encode_split
from itm_lightning.explain.measures import measure_explanations
from itm_lightning.matcher import Matcher
from itm_lightning.metrics import Gallery
from itm_lightning.metrics.hubness import hub_report
from itm_lightning.part import from_config
from itm_lightning.ranking import top_k
from itm_lightning.similarity.base import Embedding, Similarity
from itm_lightning.types import Features
from itm_lightning.utils.atomic_files import write_json
from itm_lightning.utils.internals import PeakMemory

_IMAGES, _TEXTS = 64, 256  # of the block on which scoring is timed
_REPEATS = 3
_QUERIES, _TOP = 6, 5  # queries of each direction on which variants disagree, and their answers


@dataclass(frozen=True)
class Measurement:
    """One variant, measured.

    Attributes:
        head_parameters: of the similarity.
        ms_per_1000_pairs: milliseconds to score 1,000 pairs of encoded images and texts; what the
            head does once a side is included.
        peak_mb: megabytes that scoring such a block allocates at most, beside its input.
        indexable: whether its scores are inner products of vectors, which an index can search.
        disagreements: the queries on which variants differ most, the same ones for every variant:
            ``{"direction": "i2t" | "t2i", "query": id, "ranks": {label: rank}, "top":
            [{"id", "score", "is_right"}, …]}`` with this variant's five best answers. Ids are of
            images and texts as in the records.
        hub: with ``--hub_correction``, what :func:`~itm_lightning.metrics.hubness.hub_report` says,
            by the same protocol.
        explanation: measures of its word maps, by name.
    """

    head_parameters: int
    ms_per_1000_pairs: float
    peak_mb: float
    indexable: bool
    disagreements: list[dict[str, Any]]
    hub: dict[str, Any] | None
    explanation: dict[str, float] | None


class Measurements:
    """Measures variants, and keeps the results in a file so that no measurement is repeated.

    Args:
        path: of the file, JSON.
        correction: of hubs, to be measured, too; a part's config.
        explained: on how many images explanations are measured, too.
        photos: the source of these images, where the runs' own source has only their regions.
    """

    def __init__(
        self,
        path: Path,
        correction: dict[str, Any] | None = None,
        explained: int = 0,
        photos: Source | None = None,
    ) -> None:
        self.path = path
        self.correction = correction
        self.explained = explained
        self.photos = photos
        self._stored: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def of(self, variant: Variant, queries: Sequence[dict[str, Any]]) -> Measurement:
        """One variant's; measured anew where its checkpoint or the queries are others.

        Args:
            variant: with an outcome.
            queries: see :func:`disagreements`.

        Raises:
            InputError: there is no checkpoint to measure, or it cannot be read.
        """
        outcome = variant.outcomes[0]
        path = outcome.checkpoint
        if path is None:
            raise InputError(f"{outcome.folder} has no checkpoints/best.ckpt")
        split = outcome.results["split"]
        wanted = self.correction, self.explained
        fields = [field.name for field in dataclasses.fields(Measurement)]  # of this version
        key = [str(path), path.stat().st_mtime, split, queries, *wanted, fields]
        stored = self._stored.get(variant.label)
        if stored is None or stored["of"] != key:
            made = self._measure(outcome, path, queries)
            stored = {"of": key, "measured": dataclasses.asdict(made)}
            self._stored[variant.label] = stored
            write_json(self.path, self._stored)
        return Measurement(**stored["measured"])

    @torch.no_grad()
    def _measure(
        self, outcome: Outcome, checkpoint: Path, queries: Sequence[Mapping[str, Any]]
    ) -> Measurement:
        """Encodes the split of a run once, and measures its head on it."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        matcher = Matcher.load_from_checkpoint(checkpoint, map_location=device)
        batch_size, split = outcome.config["data"]["batch_size"], outcome.results["split"]
        data = ITMDataModule(outcome.source(), batch_size).connect(matcher.image_encoder)
        gallery = encode_split(matcher, data, split)
        head = matcher.similarity
        hub = explanation = None
        if self.correction is not None:
            bank = encode_split(matcher, data, "train")
            correction, protocol = map(from_config, (self.correction, outcome.results["protocol"]))
            truth = data.ground_truth(split)
            hub = hub_report(head, gallery, bank, correction, protocol, truth)
        if self.explained:
            photos = ITMDataModule(self.photos or outcome.source(), batch_size)
            with torch.enable_grad():
                explanation = measure_explanations(matcher, photos, split, self.explained)
        milliseconds, megabytes = _cost(head, gallery)
        return Measurement(
            head_parameters=sum(parameter.numel() for parameter in head.parameters()),
            ms_per_1000_pairs=milliseconds,
            peak_mb=megabytes,
            indexable=isinstance(head, Embedding),
            disagreements=_answered(head, gallery, queries),
            hub=hub,
            explanation=explanation,
        )


def _cost(head: Similarity, gallery: Gallery) -> tuple[float, float]:
    """Milliseconds for 1,000 pairs, and the peak of memory in megabytes."""
    images, texts = gallery.images[slice(_IMAGES)], gallery.texts[slice(_TEXTS)]
    assert isinstance(images, Features)
    assert isinstance(texts, Features)  # a Matcher's own
    images, texts = (
        side.trim().map(lambda x: x.float() if x.is_floating_point() else x)
        for side in (images, texts)
    )
    with PeakMemory() as memory:
        head(images, texts)
    seconds = []
    for _ in range(_REPEATS):
        _synchronise(images.device)
        start = time.perf_counter()
        head(images, texts)
        _synchronise(images.device)
        seconds.append(time.perf_counter() - start)
    pairs = len(images) * len(texts)
    return 1e6 * statistics.median(seconds) / pairs, memory.peak / 1e6


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def disagreements(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """The queries whose ranks differ most between the variants' first seeds.

    They are taken in turns from those that each variant answers best, those with the largest ratio
    of its worst and best rank first.

    Returns:
        ``{"direction", "query", "ranks": {label: rank}}`` each, those of images first.
    """
    found = []
    for way in ("i2t", "t2i"):
        first = [variant.outcomes[0].per_query for variant in variants]
        ids = np.sort(first[0][f"{way}_ids"])
        ranks = np.stack([run[f"{way}_ranks"][np.argsort(run[f"{way}_ids"])] for run in first])
        gap = ranks.max(axis=0) / ranks.min(axis=0)
        best = ranks.argmin(axis=0)
        order = np.argsort(-gap, kind="stable")
        order = order[gap[order] > 1]
        turns = [np.flatnonzero(best[order] == i) for i in range(len(variants))]
        turn = np.empty(len(order), dtype=np.int64)
        for rows in turns:
            turn[rows] = np.arange(len(rows))
        for i in order[np.argsort(turn, kind="stable")][:_QUERIES]:
            its_ranks = {v.label: int(r) for v, r in zip(variants, ranks[:, i], strict=True)}
            found.append({"direction": way, "query": int(ids[i]), "ranks": its_ranks})
    return found


def _answered(
    head: Similarity, gallery: Gallery, queries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The queries with this head's best answers."""
    assert gallery.text_ids is not None  # every batch of a data module has them
    answered = []
    for way in ("i2t", "t2i"):
        of_way = [query for query in queries if query["direction"] == way]
        if not of_way:
            continue
        ids = gallery.image_ids if way == "i2t" else gallery.text_ids
        row = {key: i for i, key in enumerate(ids.tolist())}
        rows = torch.tensor([row[query["query"]] for query in of_way])
        if way == "i2t":
            found = top_k(head, gallery.images[rows], gallery.texts, _TOP, progress=False).i2t
            answers, asked = gallery.text_ids, gallery.image_ids[rows]
            right = gallery.text_image_ids == asked[:, None]
        else:
            found = top_k(head, gallery.images, gallery.texts[rows], _TOP, progress=False).t2i
            answers, asked = gallery.image_ids, gallery.text_image_ids[rows]
            right = gallery.image_ids == asked[:, None]
        for i, query in enumerate(of_way):
            columns, scores = found.indices[i], found.scores[i].tolist()
            cells = zip(answers[columns].tolist(), scores, right[i, columns].tolist(), strict=True)
            top = [{"id": key, "score": score, "is_right": hit} for key, score, hit in cells]
            answered.append({**query, "top": top})
    return answered
