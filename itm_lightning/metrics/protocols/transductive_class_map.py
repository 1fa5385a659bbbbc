"""TransductiveClassMAP: class mAP, and that of a ranking that sees all test items at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.distributed import Processes, ShardedFeatures, as_sharded
from itm_lightning.errors import InputError, Size
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Evaluation
from itm_lightning.metrics.protocols.class_map import ClassMAP, mean_precisions, multi_hot
from itm_lightning.ranking import text_to_image_rows
from itm_lightning.ranking.blocks import fewest_elements, ready, scoring_device
from itm_lightning.registry import get, list_registered, register
from itm_lightning.similarity import DotProduct
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.moments import LinearDirections
from itm_lightning.types import Features, double
from itm_lightning.utils.progress_bars import progress_bar

_OF_GRAPH = "transductive_"
_ROWS = 4096  # that are projected at a time
_TENSORS = 3  # as many bytes as of scores: distances are float64, and sorted
_PRECISION = 1e-12
_SECONDS_UNTIL_BAR = 5


@register("protocol")
class TransductiveClassMAP(ClassMAP):
    """Class mAP, and beside it that of a transductive ranking; the two are not comparable.

    The transductive ranking sees all images and all texts of the split at once, and all of the
    training split with their classes: other queries decide an answer's place, too, and a single
    query cannot be ranked. An inductive score, as that of every other protocol, ranks each query by
    itself. Its scores say so by their names: ``i2t_transductive_mAP``, ``t2i_transductive_mAP@50``,
    their mean over the whole ranking ``transductive_mAP``, and so on. What ``ClassMAP`` gives
    stands beside them, and alone chooses the checkpoint of a fit: epochs are ranked inductively.

    It is the second step of JGRHML (Zhai, Peng, Xiao, AAAI 2013), with the settings of the authors'
    code. Projections of all items of both splits and both sides, standardised by the training
    items of their side, are joined to their nearest, themselves included, with weight
    ``1 / (1 + exp(distance))``; with the mean ``W`` of that matrix and its transpose, and degrees
    ``D``, each class spreads from its training items: ``F = (1−α)(I − α D^-½ W D^-½)⁻¹ Y``. A
    training item's ``Y`` is ``1/n`` for a class of ``n`` items, and ``−1/(N−n)`` for one that it is
    not of; a test item's is 0. The score is ``F_image · F_text``.

    The inverse is a sum of powers, to 1e-12. Projections and the sparse graph are on every process;
    the distances are measured in blocks, by all processes together, and the result is the same on
    any number of them.

    Args:
        neighbours: how many of its nearest an item is joined to.
        alpha: α, how much comes by way of the graph.

    Raises:
        InputError: a number is out of its range.
    """

    reads_train = True

    def __init__(self, neighbours: Size = 90, alpha: float = 0.1) -> None:
        if not 0 < alpha < 1:
            raise InputError(f"TransductiveClassMAP: alpha is {alpha}; give one between 0 and 1")
        self.neighbours, self.alpha = neighbours, alpha

    @override
    def check_head(self, similarity: Similarity) -> None:
        if not isinstance(similarity, LinearDirections):
            heads = {name: get("similarity", name) for name in list_registered("similarity")}
            fit = [name for name, head in heads.items() if issubclass(head, LinearDirections)]
            raise InputError(
                "protocol TransductiveClassMAP measures distances between linear projections, and "
                f"{type(similarity).__name__} has none: heads that have are {', '.join(fit)}"
            )

    @override
    def evaluate(
        self,
        similarity: Similarity,
        gallery: Gallery,
        truth: GroundTruth,
        train: tuple[Gallery, GroundTruth] | None = None,
    ) -> Evaluation:
        """As of the base class; without the training split the inductive scores alone."""
        evaluation = super().evaluate(similarity, gallery, truth)
        if train is None:
            return evaluation
        self.check_head(similarity)
        spread = self.spread(cast(LinearDirections, similarity), gallery, *train)
        per_query = dict(evaluation.per_query)
        for key, values in super().evaluate(DotProduct(), spread, truth).per_query.items():
            way, _, measure = key.partition("_")
            if measure.startswith("AP"):
                per_query[f"{way}_{_OF_GRAPH}{measure}"] = values
        return replace(evaluation, scores=self.summarise(per_query), per_query=per_query)

    @override
    def scores(self, per_query: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table = super().scores(per_query)
        if f"i2t_{_OF_GRAPH}AP" in per_query:
            table |= mean_precisions(per_query, _OF_GRAPH)
        return table

    @torch.no_grad()
    def spread(
        self, head: LinearDirections, gallery: Gallery, bank: Gallery, truth: GroundTruth
    ) -> Gallery:
        """The gallery with ``F`` in place of features, for ``DotProduct``; a collective.

        Args:
            head: it projects both sides.
            gallery: to be ranked.
            bank: images and texts of the training split.
            truth: of the training split.
        """
        processes = as_sharded(gallery.images).processes
        of_images = multi_hot(bank.image_ids, truth.labels)
        of_texts = of_images[text_to_image_rows(bank.image_ids, bank.text_image_ids)]
        seeds, items = [], []
        for side, project, classes in (
            ("images", head.project_images, of_images),
            ("texts", head.project_texts, of_texts),
        ):
            known, asked = (_projected(head, project, getattr(g, side)) for g in (bank, gallery))
            deviations = known.std(dim=0, correction=0)
            deviations[deviations == 0] = 1  # of a component that was not found
            items.append((torch.cat([known, asked]) - known.mean(dim=0)) / deviations)
            start = class_seeds(double(classes.to(known.device)))
            seeds.append(torch.cat([start, start.new_zeros(len(asked), start.shape[1])]))
        rows, elements = torch.cat(items), fewest_elements(head, as_sharded(gallery.images))
        at_once = max(1, elements // _TENSORS // len(rows))
        graph = nearest_graph(rows, self.neighbours, at_once, processes)
        spread = spread_classes(graph, torch.cat(seeds), self.alpha)
        images, texts = spread.split([len(side) for side in items])
        return replace(
            gallery,
            images=_shared_out(images[len(bank.images) :], processes),
            texts=_shared_out(texts[len(bank.texts) :], processes),
        )


def class_seeds(classes: Tensor) -> Tensor:
    """``Y (N, C)`` of training items: ``1/n`` of their classes, ``−1/(N−n)`` of the others.

    Args:
        classes: ``(N, C)`` float64, 1 for each class of an item; ``n`` items are of a class.
    """
    n = classes.sum(dim=0)
    return classes / n.clamp(min=1) - (1 - classes) / (len(classes) - n).clamp(min=1)


def nearest_graph(rows: Tensor, neighbours: int, at_once: int, processes: Processes) -> Tensor:
    """``D^-½ W D^-½``, sparse ``(N, N)``: each item joined to its nearest; a collective.

    Args:
        rows: ``(N, d)`` float64, the same on all processes.
        neighbours: how many; of equally near ones the first.
        at_once: how many rows of distances are measured at a time.
        processes: those that measure together.
    """
    neighbours = min(neighbours, len(rows))
    shares = torch.arange(len(rows)).tensor_split(processes.size)
    bar = progress_bar(
        shares[processes.rank].split(at_once),
        desc="nearest items",
        disable=processes.rank != 0,
        delay=_SECONDS_UNTIL_BAR,
        leave=False,
    )
    found = [_nearest(rows[part], rows, neighbours) for part in bar]
    counts = [len(share) for share in shares]
    columns, weights = (
        processes.all_gather(torch.cat(parts), counts).to(rows.device).flatten()
        for parts in zip(*found, strict=True)
    )
    ends = torch.stack([torch.arange(len(rows)).repeat_interleave(neighbours).to(columns), columns])
    both = torch.cat([ends, ends.flip(0)], dim=1), torch.cat([weights, weights]) / 2
    size = (len(rows), len(rows))
    joined = torch.sparse_coo_tensor(*both, size, check_invariants=False).coalesce()
    scale = torch.sparse.sum(joined, dim=1).to_dense().rsqrt()
    ends = joined.indices()
    scaled = joined.values() * scale[ends[0]] * scale[ends[1]]
    return torch.sparse_coo_tensor(ends, scaled, size, check_invariants=False, is_coalesced=True)


def spread_classes(graph: Tensor, seeds: Tensor, alpha: float) -> Tensor:
    """``(1−α)(I − αS)⁻¹ Y (N, C)`` of a graph ``S (N, N)`` and ``seeds`` ``Y (N, C)``.

    Zhou, Bousquet, Lal, Weston, Schölkopf (NeurIPS 2003, "Learning with Local and Global
    Consistency"). No eigenvalue of ``S`` exceeds 1, so that a step leaves α of the error.
    """
    found = seeds
    for _ in range(math.ceil(math.log(_PRECISION) / math.log(alpha))):
        found = alpha * (graph @ found) + (1 - alpha) * seeds
    return found


def _nearest(rows: Tensor, others: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Numbers of the ``k`` nearest others of each row, and weights, both ``(n, k)``."""
    # not by products: a distance is the same then in a block of any shape
    distances = torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
    last = distances.kthvalue(k, dim=1, keepdim=True).values
    nearer, equal = distances < last, distances == last
    kept = nearer | (equal & (equal.cumsum(dim=1) <= k - nearer.sum(dim=1, keepdim=True)))
    columns = kept.nonzero()[:, 1].view(-1, k)
    return columns, torch.sigmoid(-distances.gather(1, columns))


def _projected(
    head: LinearDirections,
    project: Callable[[Features], Tensor],
    features: Features | ShardedFeatures,
) -> Tensor:
    """``(N, components)`` float64, the same on all processes; a collective."""
    sharded, device = as_sharded(features), scoring_device(head, as_sharded(features))
    parts = torch.arange(len(sharded)).split(_ROWS)
    return torch.cat([project(ready(sharded.fetch(part), device, head)) for part in parts])


def _shared_out(rows: Tensor, processes: Processes) -> ShardedFeatures:
    """Rows that all processes have, of which each keeps a share; a collective."""
    own = rows.tensor_split(processes.size)[processes.rank]
    return ShardedFeatures.of(Features.from_pooled(own), rows.device, processes)
