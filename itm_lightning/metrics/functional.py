"""Recall at K, median and mean rank, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from itm_lightning.metrics.gallery import Gallery
from itm_lightning.ranking import rank, ranks_from_scores
from itm_lightning.similarity.base import Similarity

_RSUM_KS = (1, 5, 10)


def retrieval_recall(
    scores: Tensor, image_ids: Tensor, text_image_ids: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, Tensor]:
    """Recall in both directions from a whole score matrix.

    Args:
        scores: ``(N, M)`` float, images by texts; higher is closer.
        image_ids: ``(N,)`` int64, each once. An image without texts is a distractor.
        text_image_ids: ``(M,)`` int64, the id of each text's image.
        ks: the K of R@K.

    Returns:
        As :func:`recall_from_ranks`.

    Raises:
        InputError: an image's id occurs twice, a text's image is missing, there is nothing to
            rank, or a score is NaN.
    """
    ranks = ranks_from_scores(scores, image_ids, text_image_ids)
    return recall_from_ranks(ranks.i2t, ranks.t2i, ks)


def recall_from_ranks(
    i2t: Tensor, t2i: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, Tensor]:
    """R@K in percent, and floor of the median and mean of the ranks, in both directions.

    Args:
        i2t: ``(n_images,)`` ranks of each image's best text; 1 is first.
        t2i: ``(n_texts,)`` ranks of each text's image.
        ks: the K of R@K.

    Returns:
        ``i2t_R@1``, …, ``i2t_medr``, ``i2t_meanr``, the same for ``t2i``, and ``rsum``, the sum of
        those R@1, R@5 and R@10 that ``ks`` asks for. Scalars in float64 on the CPU: in float32 a
        logged 54.132 reads 54.13199996948242, and not every accelerator knows float64.
    """
    return _with_rsum(_one_way("i2t", i2t, ks) | _one_way("t2i", t2i, ks))


def gallery_recall(
    similarity: Similarity, gallery: Gallery, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, Tensor]:
    """Recall in both directions over a gallery, without its whole score matrix.

    Returns:
        As :func:`recall_from_ranks`.

    Raises:
        InputError: see :func:`itm_lightning.ranking.rank`.
    """
    ranks = rank(
        similarity, gallery.images, gallery.texts, gallery.image_ids, gallery.text_image_ids
    )
    return recall_from_ranks(ranks.i2t, ranks.t2i, ks)


def mean_over_folds(tables: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every score of tables as :func:`recall_from_ranks` gives them.

    rsum is the sum of the six averaged recalls, where published implementations print six times an
    average.
    """
    keys = [key for key in tables[0] if key != "rsum"]
    return _with_rsum({key: torch.stack([table[key] for table in tables]).mean() for key in keys})


def _with_rsum(table: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [f"{way}_R@{k}" for way in ("i2t", "t2i") for k in _RSUM_KS]
    summands = [table[name] for name in names if name in table]
    return table | {"rsum": sum(summands, torch.zeros((), dtype=torch.float64))}


def _one_way(way: str, ranks: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
    ranks = ranks.cpu().double()
    recalls = {f"{way}_R@{k}": 100 * (ranks <= k).sum().double() / len(ranks) for k in ks}
    median = ranks.quantile(0.5).floor()  # Tensor.median takes the lower of the middle two
    return recalls | {f"{way}_medr": median, f"{way}_meanr": ranks.mean()}
