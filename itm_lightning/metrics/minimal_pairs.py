"""Minimal pairs: does a head see structure, or only which things occur?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from itm_lightning.distributed import as_sharded
from itm_lightning.errors import InputError
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.ranking import block_scorer_over, text_to_image_rows
from itm_lightning.similarity.base import Similarity

_PAIRS_A_BLOCK = 32


@torch.no_grad()
def pairs_accuracy(
    similarity: Similarity, gallery: Gallery, minimal_pairs: Mapping[int, int]
) -> float:
    """Percentage of captions that score strictly higher with their own photo than with its twin.

    Chance is 50. A head that only sees which things occur scores the two photos of a minimal pair
    alike, and ties count against it.

    Args:
        similarity: the head.
        gallery: from :meth:`itm_lightning.metrics.BidirectionalRecall.gallery`.
        minimal_pairs: image id to the id of the image that forms a minimal pair with it, in one
            direction or both. Pairs of which the gallery lacks a photo are left out.

    Returns:
        The percentage over the captions of both photos of every pair; NaN without a whole pair.

    Raises:
        InputError: a photo has two twins, or a score is NaN.
    """
    pairs = _pair_rows(gallery.image_ids.cpu(), minimal_pairs)
    owner = text_to_image_rows(gallery.image_ids.cpu(), gallery.text_image_ids.cpu())
    place = torch.full((len(gallery.image_ids),), -1)  # twins stand at 2k and 2k + 1
    place[pairs.flatten()] = torch.arange(pairs.numel())
    image = place[owner]  # of each caption
    order = image.argsort(stable=True)[int((image < 0).sum()) :]
    image = image[order]
    if not len(image):
        return float("nan")

    size = 2 * _PAIRS_A_BLOCK
    own = torch.searchsorted(image, torch.arange(0, pairs.numel() + size, size)).tolist()
    images, texts = as_sharded(gallery.images)[pairs.flatten()], as_sharded(gallery.texts)[order]
    scorer = block_scorer_over(similarity, images, texts, size, len(texts), own, progress=False)
    right = torch.tensor(0)
    for block in scorer.positive_blocks():
        local = (image.to(scorer.device)[block.texts] - block.images.start)[None, :]
        scores = block.scores
        right += (scores.gather(0, local) > scores.gather(0, local ^ 1)).sum().cpu()
    return 100 * int(images.processes.sum(right)) / len(image)


def _pair_rows(image_ids: Tensor, minimal_pairs: Mapping[int, int]) -> Tensor:
    """``(P, 2)`` int64, the rows of every whole pair, each pair once."""
    row = {image: i for i, image in enumerate(image_ids.tolist())}
    whole = {
        tuple(sorted((row[a], row[b]))) for a, b in minimal_pairs.items() if a in row and b in row
    }
    pairs = torch.tensor(sorted(whole), dtype=torch.int64, device=image_ids.device).view(-1, 2)
    images, counts = pairs.unique(return_counts=True)
    if (counts > 1).any():
        image = int(image_ids[images[counts > 1][0]])
        raise InputError(f"photo id {image} has two twins; a minimal pair is two photos")
    return pairs
