"""Minimal pairs: does a head see structure, or only which things occur?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from itm_lightning.distributed import as_spread
from itm_lightning.errors import InputError
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.ranking import owners, sweep_over
from itm_lightning.similarity.base import Similarity

_PAIRS_A_BLOCK = 32


@torch.no_grad()
def pairs_accuracy(similarity: Similarity, gallery: Gallery, twins: Mapping[int, int]) -> float:
    """Percentage of captions that score strictly higher with their own photo than with its twin.

    Chance is 50. A head that only sees which things occur scores the two photos of a minimal pair
    alike, and ties count against it.

    Args:
        similarity: the head.
        gallery: from :meth:`itm_lightning.metrics.BidirectionalRecall.gallery`.
        twins: photo id to the id of the photo that forms a minimal pair with it, in one direction
            or both. Pairs of which the gallery lacks a photo are left out.

    Returns:
        The percentage over the captions of both photos of every pair; NaN without a whole pair.

    Raises:
        InputError: a photo has two twins, or a score is NaN.
    """
    pairs = _pair_rows(gallery.image_ids.cpu(), twins)
    owner = owners(gallery.image_ids.cpu(), gallery.text_image_ids.cpu())
    place = torch.full((len(gallery.image_ids),), -1)  # twins stand at 2k and 2k + 1
    place[pairs.flatten()] = torch.arange(pairs.numel())
    photo = place[owner]  # of each caption
    captions = photo.argsort(stable=True)[int((photo < 0).sum()) :]
    photo = photo[captions]
    if not len(photo):
        return float("nan")

    size = 2 * _PAIRS_A_BLOCK
    own = torch.searchsorted(photo, torch.arange(0, pairs.numel() + size, size)).tolist()
    images, texts = as_spread(gallery.images)[pairs.flatten()], as_spread(gallery.texts)[captions]
    sweep = sweep_over(similarity, images, texts, size, len(texts), own, progress=False)
    right = torch.tensor(0)
    for block in sweep.diagonal():
        local = (photo.to(sweep.device)[block.captions] - block.photos.start)[None, :]
        scores = block.scores
        right += (scores.gather(0, local) > scores.gather(0, local ^ 1)).sum().cpu()
    return 100 * int(images.processes.sum(right)) / len(photo)


def _pair_rows(image_ids: Tensor, twins: Mapping[int, int]) -> Tensor:
    """``(P, 2)`` int64, the rows of every whole pair, each pair once."""
    row = {photo: i for i, photo in enumerate(image_ids.tolist())}
    whole = {tuple(sorted((row[a], row[b]))) for a, b in twins.items() if a in row and b in row}
    pairs = torch.tensor(sorted(whole), dtype=torch.int64, device=image_ids.device).view(-1, 2)
    photos, counts = pairs.unique(return_counts=True)
    if (counts > 1).any():
        photo = int(image_ids[photos[counts > 1][0]])
        raise InputError(f"photo id {photo} has two twins; a minimal pair is two photos")
    return pairs
