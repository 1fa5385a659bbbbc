"""BidirectionalRecall: retrieval over all images and texts of an evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from itm_lightning.distributed import Processes, ShardedFeatures, SingleProcess, all_processes
from itm_lightning.errors import InputError
from itm_lightning.metrics.functional import gallery_recall
from itm_lightning.metrics.gallery import Gallery, cat_and_free, ordinals, without_repeats
from itm_lightning.ranking import blocks
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.ensemble import Ensemble
from itm_lightning.types import AnyFeatures, Features, MemberFeatures

_FIELDS = ("tokens", "mask", "pooled")
_IDS = ("image_ids", "text_image_ids", "text_ids")


class BidirectionalRecall(Metric):
    """Recall in both directions over everything that :meth:`update` was given, on all processes.

    Features wait on the device for as long as they fit, and on the CPU from then on.

    Exact: every image is scored with every text once, in blocks, and what a distributed sampler
    repeats counts once. Features stay on the process that encoded them; each process scores a share
    of the images, and all have the same result. See
    :func:`itm_lightning.metrics.recall_from_ranks` for the values and
    :func:`itm_lightning.ranking.rank` for ties and distractors.

    Args:
        similarity: the head. The metric refers to it, and neither moves nor saves it.
        ks: the K of R@K.
        sync_on_compute: whether the processes compute together, or each over its own updates.
        **kwargs: further arguments of :class:`torchmetrics.Metric`, such as ``compute_on_cpu``,
            with which features wait on the CPU for as long as they are not scored.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(
        self,
        similarity: Similarity,
        ks: Sequence[int] = (1, 5, 10),
        sync_on_compute: bool = True,
        **kwargs: Any,
    ) -> None:
        # gallery() brings processes together by itself: torchmetrics would copy everything to all
        super().__init__(sync_on_compute=False, **kwargs)
        self._similarity = (similarity,)  # in a tuple, or it would become a submodule
        self.ks = tuple(ks)
        self._together = sync_on_compute
        self._gallery: tuple[Any, Gallery] | None = None  # and what it was made of
        self._bytes = 0  # of features
        features = itertools.chain(*self._states("image"), *self._states("text"))
        for name in (*features, *_IDS):
            self.add_state(name, default=[], dist_reduce_fx=None)

    @property
    def similarity(self) -> Similarity:
        """The head."""
        return self._similarity[0]

    def update(
        self,
        images: AnyFeatures,
        texts: AnyFeatures | None,
        image_ids: Tensor,
        text_image_ids: Tensor,
        text_ids: Tensor | None = None,
    ) -> None:
        """Takes a batch; keeps of the features only what the head reads.

        Args:
            images: of ``N`` images; an image may come again, with more of its texts.
            texts: of ``M`` texts; ``None`` where no image of the batch has any.
            image_ids: ``(N,)`` int64.
            text_image_ids: ``(M,)`` int64, the id of each text's image.
            text_ids: ``(M,)`` int64, always or never. Without them, the texts of an image must
                all be given to one process, each once.

        Raises:
            InputError: ids are not int64, or not one for each row.
        """
        n_texts = 0 if texts is None else len(texts)
        all_ids = (image_ids, len(images)), (text_image_ids, n_texts), (text_ids, n_texts)
        for name, (ids, length) in zip(_IDS, all_ids, strict=True):
            if ids is not None:
                getattr(self, name).append(_checked(name, ids, length).to(self.device))
        self._keep("image", images)
        if texts is not None:
            self._keep("text", texts)
        # torchmetrics moves them after every update then; scores are made on the device still
        self.compute_on_cpu |= self._bytes > blocks.feature_bytes(self.device)

    def _keep(self, side: str, features: Any) -> None:
        kept = self.similarity.select(features).detach().to(self.device)
        for part, names in zip(kept.parts, self._states(side), strict=False):
            for name, value in zip(names, (part.tokens, part.mask, part.pooled), strict=True):
                if value is not None:
                    getattr(self, name).append(value)
                    self._bytes += value.numel() * value.element_size()

    def compute(self) -> dict[str, Tensor]:
        """The table of :func:`itm_lightning.metrics.recall_from_ranks`.

        Raises:
            InputError: see :meth:`gallery` and :func:`itm_lightning.ranking.rank`.
        """
        return gallery_recall(self.similarity, self.gallery(), self.ks)

    def gallery(self) -> Gallery:
        """All images and texts given so far on all processes, each once, in the order of ids.

        Images by id, texts by image and then by their own id or as they came. A collective
        until :meth:`update` or :meth:`reset` is called again: every process must call it, or
        :meth:`compute`.

        Raises:
            InputError: there are no images or no texts, only some texts have ids, or an id stands
                for two different things; raised on every process.
        """
        made_of = self.update_count, self.device
        if self._gallery is None or self._gallery[0] != made_of:
            processes = all_processes(self.process_group) if self._together else SingleProcess()
            self._gallery = made_of, self._gallery_of(processes)
        return self._gallery[1]

    def reset(self) -> None:
        """Forgets everything."""
        super().reset()
        self._gallery, self._bytes = None, 0

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Takes a batch, and computes the recall of that batch alone; no collective.

        A text whose image came with an earlier batch is an error here: call :meth:`update` then.
        """
        self.update(*args, **kwargs)
        batch = BidirectionalRecall(self.similarity, self.ks, sync_on_compute=False)
        batch = batch.to(self.device)
        batch.update(*args, **kwargs)
        recall: dict[str, Tensor] = batch.compute()
        self._forward_cache: Any = recall  # what Lightning's self.log reads
        return recall

    def clone(self) -> BidirectionalRecall:
        """A metric of its own on the same head."""
        return deepcopy(self, {id(self.similarity): self.similarity})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_gallery": None}  # made anew from the state

    def _gallery_of(self, processes: Processes) -> Gallery:
        ids = [_joined(getattr(self, name)) for name in _IDS]
        own_ordinals = None if ids[1] is None else ordinals(ids[1])
        gathered = [processes.gather(rows) for rows in (*ids, own_ordinals)]
        if any(rows is None or not len(rows) for rows in gathered[:2]):
            raise InputError("BidirectionalRecall has seen no photos or no captions")
        # on the CPU: which rows there are, and in what order, is decided there
        image_ids, text_image_ids, text_ids, text_ordinals = (
            None if rows is None else rows.cpu() for rows in gathered
        )
        assert image_ids is not None
        assert text_image_ids is not None
        assert text_ordinals is not None  # they come with the images' ids
        if text_ids is not None and len(text_ids) != len(text_image_ids):
            raise InputError(
                f"text_ids came with {len(text_ids)} of {len(text_image_ids)} captions: always "
                "give them, or never"
            )
        images, texts = (
            ShardedFeatures.of(self._features(side), self.device, processes)
            for side in ("image", "text")
        )
        gallery = Gallery(images, texts, image_ids, text_image_ids, text_ids)
        return without_repeats(gallery, text_ordinals)

    def _features(self, side: str) -> AnyFeatures | None:
        """Those of this process's updates; from now on they are kept joined, not twice."""
        states = [[getattr(self, name) for name in names] for names in self._states(side)]
        parts = tuple(
            Features(*(cat_and_free(state) if state else None for state in part))
            for part in states
            if any(part)
        )
        if len(parts) > 1:
            return MemberFeatures(parts)
        return parts[0] if parts else None

    def _states(self, side: str) -> list[list[str]]:
        """The names of the lists of tokens, masks and pooled vectors, of each member."""
        head = self.similarity
        n_members = len(head.heads) if isinstance(head, Ensemble) else 1
        endings = ["", *(f"_{member}" for member in range(1, n_members))]
        return [[f"{side}_{field}{ending}" for field in _FIELDS] for ending in endings]


def _joined(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if parts else None


def _checked(name: str, ids: Tensor, length: int) -> Tensor:
    if ids.dtype != torch.int64 or ids.shape != (length,):
        raise InputError(
            f"{name} must be int64 of shape ({length},), not {ids.dtype} of {tuple(ids.shape)}"
        )
    return ids
