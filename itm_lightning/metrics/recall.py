"""BidirectionalRecall: retrieval over all photos and captions of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from itm_lightning.distributed import gather_rows
from itm_lightning.errors import InputError
from itm_lightning.metrics.functional import gallery_recall
from itm_lightning.metrics.gallery import Gallery, ordinals, without_repeats
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features

_FIELDS = ("tokens", "mask", "pooled")
_IDS = ("image_ids", "text_image_ids", "text_ids")


class BidirectionalRecall(Metric):
    """Recall in both directions over everything that :meth:`update` saw, on all processes.

    Exact: every photo meets every caption once, in blocks, and what a distributed sampler repeats
    counts once. See :func:`itm_lightning.metrics.recall_from_ranks` for the values and
    :func:`itm_lightning.ranking.rank` for ties and distractors.

    Args:
        similarity: the head. The metric refers to it, and neither moves nor saves it.
        ks: the K of R@K.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, similarity: Similarity, ks: Sequence[int] = (1, 5, 10)) -> None:
        # gallery() gathers by itself: torchmetrics cannot pad tokens, nor a process without rows
        super().__init__(sync_on_compute=False)
        self._similarity = (similarity,)  # in a tuple, or it would become a submodule
        self.ks = tuple(ks)
        self._gallery: Gallery | None = None
        sides = [f"{side}_{field}" for side in ("image", "text") for field in _FIELDS]
        for name in (*sides, *_IDS):
            self.add_state(name, default=[], dist_reduce_fx=None)

    @property
    def similarity(self) -> Similarity:
        """The head."""
        return self._similarity[0]

    def update(
        self,
        images: Features,
        texts: Features,
        image_ids: Tensor,
        text_image_ids: Tensor,
        text_ids: Tensor | None = None,
    ) -> None:
        """Takes in a batch; keeps of the features only what the head reads.

        Args:
            images: of ``N`` photos; a photo may come again, with more of its captions.
            texts: of ``M`` captions.
            image_ids: ``(N,)`` int64.
            text_image_ids: ``(M,)`` int64, the id of each caption's photo.
            text_ids: ``(M,)`` int64, always or never. Without them, the captions of a photo must
                all be seen by one process, each once.

        Raises:
            InputError: ids are not int64, or not one for each row.
        """
        self._gallery = None
        all_ids = (image_ids, len(images)), (text_image_ids, len(texts)), (text_ids, len(texts))
        for name, (ids, length) in zip(_IDS, all_ids, strict=True):
            if ids is not None:
                getattr(self, name).append(_checked(name, ids, length).to(self.device))
        for side, features in (("image", images), ("text", texts)):
            kept = self.similarity.keep(features).detach().to(self.device)
            for field in _FIELDS:
                if (value := getattr(kept, field)) is not None:
                    getattr(self, f"{side}_{field}").append(value)

    def compute(self) -> dict[str, Tensor]:
        """The table of :func:`itm_lightning.metrics.recall_from_ranks`.

        Raises:
            InputError: see :meth:`gallery` and :func:`itm_lightning.ranking.rank`.
        """
        return gallery_recall(self.similarity, self.gallery(), self.ks)

    def gallery(self) -> Gallery:
        """All photos and captions seen so far on all processes, each once.

        A collective until :meth:`update` or :meth:`reset` is called again: every process must call
        it, or :meth:`compute`.

        Raises:
            InputError: there are no photos or captions, only some captions have ids, or an id
                stands for two different things.
        """
        if self._gallery is None:
            self._gallery = self._gathered()
        return self._gallery

    def reset(self) -> None:
        """Forgets everything."""
        super().reset()
        self._gallery = None

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """The same as :meth:`update`: recall within a single batch says nothing of the gallery."""
        self.update(*args, **kwargs)

    def clone(self) -> BidirectionalRecall:
        """A metric of its own on the same head."""
        return deepcopy(self, {id(self.similarity): self.similarity})

    def _gathered(self) -> Gallery:
        image_ids, text_image_ids, text_ids = (self._local_ids(name) for name in _IDS)
        own_ordinals = None if text_image_ids is None else ordinals(text_image_ids)
        ids = (image_ids, text_image_ids, text_ids, own_ordinals)
        image_ids, text_image_ids, text_ids, text_ordinals = map(self._gather, ids)
        images, texts = self._gathered_features("image"), self._gathered_features("text")
        if images is None or texts is None:
            raise InputError("BidirectionalRecall has seen no photos or no captions")
        if text_ids is not None and len(text_ids) != len(texts):
            raise InputError(
                f"text_ids came with {len(text_ids)} of {len(texts)} captions: always give them, "
                "or never"
            )
        assert image_ids is not None  # they come with the features
        assert text_image_ids is not None
        assert text_ordinals is not None
        gallery = Gallery(images, texts, image_ids, text_image_ids, text_ids)
        return without_repeats(gallery, text_ordinals)

    def _gather(self, rows: Tensor | None) -> Tensor | None:
        return gather_rows(rows, self.device)

    def _local_ids(self, name: str) -> Tensor | None:
        parts = getattr(self, name)
        return torch.cat(parts) if parts else None

    def _gathered_features(self, side: str) -> Features | None:
        columns = [getattr(self, f"{side}_{field}") for field in _FIELDS]
        parts = [Features(*values) for values in zip_longest(*columns)]
        local = Features.cat(parts) if parts else None
        fields = [self._gather(getattr(local, field, None)) for field in _FIELDS]
        return None if all(field is None for field in fields) else Features(*fields)


def _checked(name: str, ids: Tensor, length: int) -> Tensor:
    if ids.dtype != torch.int64 or ids.shape != (length,):
        raise InputError(
            f"{name} must be int64 of shape ({length},), not {ids.dtype} of {tuple(ids.shape)}"
        )
    return ids
