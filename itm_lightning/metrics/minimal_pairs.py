"""Minimal pairs: does a head read structure, or only which things occur?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.ranking import Stage, score_listed, text_to_image_rows
from itm_lightning.similarity.base import Similarity


def pairs_accuracy(
    similarity: Similarity, gallery: Gallery, minimal_pairs: Mapping[int, int]
) -> float:
    """Percentage of texts that score strictly higher with their own image than with the other.

    Chance is 50. A head that only reads which things occur scores the two images of a minimal pair
    alike, and ties count against it.

    Args:
        similarity: the head.
        gallery: from :meth:`itm_lightning.metrics.BidirectionalRecall.gallery`.
        minimal_pairs: image id to the id of the image that forms a minimal pair with it, in one
            direction or both. A pair of which the gallery lacks an image is left out.

    Returns:
        The percentage over the texts of both images of every pair; NaN without a whole pair.

    Raises:
        InputError: an image is in two pairs, or a score is NaN.
    """
    return percent_correct(minimal_pair_correct(similarity, gallery, minimal_pairs)[1])


@torch.no_grad()
def minimal_pair_correct(
    similarity: Similarity, gallery: Gallery, minimal_pairs: Mapping[int, int]
) -> tuple[Tensor, Tensor]:
    """Which texts of minimal pairs score higher with their own image; a collective.

    Args and errors are those of :func:`pairs_accuracy`.

    Returns:
        ``rows (n,)`` int64, the gallery's rows of the texts of all whole pairs; and ``correct
        (n,)`` bool, whether each scores strictly higher with its own image. Both on the CPU.
    """
    image_ids = gallery.image_ids.cpu()
    pairs = _pair_rows(image_ids, minimal_pairs)
    text_to_image = text_to_image_rows(image_ids, gallery.text_image_ids.cpu())
    position = torch.full((len(image_ids),), -1)  # the images of a pair are at 2k and 2k + 1
    position[pairs.flatten()] = torch.arange(pairs.numel())
    own = position[text_to_image]  # the position of each text's image
    rows = own.argsort(stable=True)[int((own < 0).sum()) :]
    own = own[rows]
    if not len(rows):
        return rows, torch.zeros(0, dtype=torch.bool)
    both = torch.stack([pairs.flatten()[own], pairs.flatten()[own ^ 1]])
    stage = Stage(similarity, gallery.images, gallery.texts)
    scores = score_listed(stage, both.flatten(), rows.repeat(2)).view(2, -1).cpu()
    return rows, scores[0] > scores[1]


def percent_correct(correct: Tensor) -> float:
    """Percentage of ``correct (n,)`` bool that is true; NaN where there is none."""
    return 100 * int(correct.sum()) / len(correct) if len(correct) else float("nan")


def _pair_rows(image_ids: Tensor, minimal_pairs: Mapping[int, int]) -> Tensor:
    """``(P, 2)`` int64, the rows of every whole pair, each pair once."""
    row = {image: i for i, image in enumerate(image_ids.tolist())}
    whole = {
        tuple(sorted((row[a], row[b]))) for a, b in minimal_pairs.items() if a in row and b in row
    }
    pairs = torch.tensor(sorted(whole), dtype=torch.int64).view(-1, 2)
    images, counts = pairs.unique(return_counts=True)
    if (counts > 1).any():
        image = int(image_ids[images[counts > 1][0]])
        raise InputError(
            f"image id {image} is in two minimal pairs: give the source one minimal pair an image"
        )
    return pairs
