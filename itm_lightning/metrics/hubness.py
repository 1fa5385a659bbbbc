"""Hubness: how unequally often items are among the nearest, measured and corrected."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.protocols.base import Protocol
from itm_lightning.part import to_config
from itm_lightning.ranking import TopK, reduce_scores, top_k
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.hub_correction import HubCorrected, HubCorrection
from itm_lightning.types import AnyFeatures, Features, MemberFeatures

NEAREST = 10


def n_occurrences(nearest: Tensor, n_items: int) -> Tensor:
    """N_k: how many queries have each item among their k nearest.

    Radovanović et al., JMLR 2010, Hubs in space, section 2.

    Args:
        nearest: ``(n_queries, k)`` int64, rows of items.
        n_items: how many items there are.

    Returns:
        ``(n_items,)`` int64; 0 for an item that is never among them.
    """
    return nearest.flatten().bincount(minlength=n_items)


def skewness(occurrences: Tensor) -> float:
    """``E[(N − μ)³] / σ³`` of ``occurrences (n_items,)``; 0 where all are equal.

    Above 0 where a few items occur very often; items that never occur count. Radovanović et al.,
    JMLR 2010, section 2, equation 1.
    """
    centred = occurrences.cpu().double() - occurrences.cpu().double().mean()
    variance = centred.pow(2).mean()
    return float(centred.pow(3).mean() / variance.pow(1.5)) if variance > 0 else 0.0


def hubness(nearest: TopK) -> dict[str, float]:
    """Skewness of N_k, and the share of anti-hubs: items that are among the k nearest of none.

    Args:
        nearest: of all images and all texts.

    Returns:
        ``i2t_skewness`` and ``i2t_anti_hubs`` of texts, which are the items where images ask;
        ``t2i_skewness`` and ``t2i_anti_hubs`` of images.
    """
    table = {}
    for way, asking, items in ("i2t", nearest.i2t, nearest.t2i), ("t2i", nearest.t2i, nearest.i2t):
        occurrences = n_occurrences(asking.indices, len(items.indices))
        table[f"{way}_skewness"] = skewness(occurrences)
        table[f"{way}_anti_hubs"] = float((occurrences == 0).double().mean())
    return table


def hub_report(
    similarity: Similarity,
    gallery: Gallery,
    bank: Gallery,
    correction: HubCorrection,
    protocol: Protocol,
    truth: GroundTruth,
) -> dict[str, Any]:
    """What a correction changes in the retrieval of a gallery, in plain values; a collective.

    Args:
        similarity: the head.
        gallery: the images and texts to be ranked.
        bank: those of the training split.
        correction: of hubs.
        protocol: by which the corrected scores are made.
        truth: see :meth:`itm_lightning.metrics.protocols.Protocol.evaluate`.

    Returns:
        ``correction``, its config; ``bank``, how many ``images`` and ``texts`` it has; ``scores``
        with the correction; and ``hubness`` at k = 10 ``before`` and ``after``.

    Raises:
        InputError: see :func:`itm_lightning.ranking.rank`.
    """
    head, corrected = correct_hubs(similarity, gallery, bank, correction)
    both = {"before": (similarity, gallery), "after": (head, corrected)}
    return {
        "correction": to_config(correction),
        "bank": {"images": len(bank.images), "texts": len(bank.texts)},
        "scores": protocol.evaluate(head, corrected, truth).scores,
        "hubness": {
            when: hubness(top_k(scorer, scored.images, scored.texts, NEAREST))
            for when, (scorer, scored) in both.items()
        },
    }


def correct_hubs(
    similarity: Similarity, gallery: Gallery, bank: Gallery, correction: HubCorrection
) -> tuple[Similarity, Gallery]:
    """A head and a gallery whose scores, under any protocol, are corrected; a collective.

    Args:
        similarity: the head.
        gallery: the images and texts to be ranked.
        bank: those of the training split; on several processes each may hold a part of them.
        correction: of hubs.

    Raises:
        InputError: a score is NaN.
    """
    of_images = _biases(similarity, gallery.images, bank.texts, "images", correction)
    of_texts = _biases(similarity, bank.images, gallery.texts, "texts", correction)
    head = HubCorrected(similarity)
    n_heads = len(head.heads) - 1
    return head, replace(
        gallery,
        images=_with_biases(gallery.images, of_images, n_heads),
        texts=_with_biases(gallery.texts, of_texts, n_heads),
    )


def _biases(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    of: Literal["images", "texts"],
    correction: HubCorrection,
) -> Tensor:
    """``(N,)`` of the images or texts, of which the other side is the bank."""
    width = min(correction.width, len(texts if of == "images" else images))
    reduce = functools.partial(correction.reduce, width=width)
    reduced = reduce_scores(similarity, images, texts, of, reduce, width)
    return correction.bias(reduced).float()


def _with_biases(
    features: AnyFeatures | ShardedFeatures, biases: Tensor, n_heads: int
) -> ShardedFeatures:
    """What each head reads, and last the biases ``(N,)``, as a HubCorrected head reads them."""
    sharded = as_sharded(features)
    own = sharded.owner_rank == sharded.processes.rank
    local = torch.zeros(len(sharded.local), 1)
    local[sharded.local_index[own]] = biases.cpu()[own, None]

    def add(rows: AnyFeatures, more: Tensor) -> MemberFeatures:
        parts = rows.parts if isinstance(rows, MemberFeatures) else rows.parts * n_heads
        return MemberFeatures((*parts, Features.from_pooled(more.to(rows.device))))

    return replace(
        sharded, local=add(sharded.local, local), empty=add(sharded.empty, torch.zeros(0, 1))
    )
