"""Several models that score the same photos and captions, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from itm_lightning.distributed import Views
from itm_lightning.errors import InputError
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.similarity import Ensemble
from itm_lightning.similarity.base import Similarity


@dataclass(frozen=True)
class Voter:
    """One of several models.

    Attributes:
        weight: of its scores; above 0.
        similarity: its head.
        gallery: what it made of the photos and captions, each known by its id.
    """

    weight: float
    similarity: Similarity
    gallery: Gallery


def together(voters: Sequence[Voter], device: torch.device) -> tuple[Ensemble, Gallery]:
    """A head and a gallery whose scores are the weighted mean of the voters' scores.

    The mean is of scores as they are, as SGRAF (Diao et al., AAAI 2021) and VSRN (Li et al., ICCV
    2019) report of two models; models of unlike scale want weights.

    Args:
        voters: at least one.
        device: where the heads are to score.

    Raises:
        InputError: they did not see the same photos and captions.
    """
    first = voters[0].gallery
    for voter in voters[1:]:
        for ids in ("image_ids", "text_image_ids", "text_ids"):
            own, others = getattr(first, ids), getattr(voter.gallery, ids)
            if own is None or others is None or not own.cpu().equal(others.cpu()):
                raise InputError("models that score together must see the same photos and captions")
    heads = [voter.similarity.to(device) for voter in voters]
    gallery = replace(
        first,
        images=Views.of_models([voter.gallery.images for voter in voters]),
        texts=Views.of_models([voter.gallery.texts for voter in voters]),
    )
    return Ensemble(heads, [voter.weight for voter in voters]), gallery
