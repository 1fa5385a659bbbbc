"""Which images and texts are scored together, so that a block fits into memory.

Blocks depend on the sizes of the gallery, on the head and on the memory of a device, never on the
number of processes that share them. So every block is computed from the same numbers in the same
shapes, whichever process computes it, and its scores are the same to the last bit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures
from itm_lightning.errors import InputError
from itm_lightning.similarity.base import Similarity
from itm_lightning.similarity.ensemble import Ensemble
from itm_lightning.types import AnyFeatures, MemberFeatures, at_least_float32

_LENGTH_GROUPS = 8  # at least
_FEWEST_TEXTS = 8  # of a group: fewer cost more in calls than they save in padding

# A block that leaves the caches of a core is scored more slowly, however much memory there is.
_CPU_BYTES = 64 * 2**20
# Of all there is, not of what is free: blocks must not differ from one run to the next.
_GPU_SHARE = 1 / 32
_GPU_SHARE_OF_FEATURES = 1 / 4  # of a gallery; weights and blocks need memory, too
_BYTES = 4  # scores are float32
_TENSORS = 4  # about so many tensors of a block's size exist at a time


def block_elements(device: torch.device) -> int:
    """The most elements that a tensor of a block should have, by the memory of its device."""
    if device.type != "cuda":
        return _CPU_BYTES // (_BYTES * _TENSORS)
    total = torch.cuda.get_device_properties(device).total_memory
    return int(total * _GPU_SHARE) // (_BYTES * _TENSORS)


def feature_bytes(device: torch.device) -> float:
    """The most bytes of features that should wait on their device until they are scored."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.get_device_properties(device).total_memory * _GPU_SHARE_OF_FEATURES


_UNITS = 64  # so many processes get equal work
_FEWEST_IMAGES = 32  # of a unit: in smaller blocks a pair takes longer
_FEWEST_VECTORS = 512  # the same, where an image is a single vector
# The scores of vectors are little work, but read several times: they should stay in the cache.
_VECTORS_SHARE = 1 / 4  # of a block
_GROUP = 4  # the features of a group of texts are so many tensors of a block's size at most


@dataclass(frozen=True)
class BlockSizes:
    """How many images and texts are scored at a time.

    Attributes:
        images: of a unit, which one process scores with all texts.
        texts: of a group, which all processes score with their images at a time.
    """

    images: int
    texts: int


def block_sizes(
    similarity: Similarity, images: ShardedFeatures, texts: ShardedFeatures, elements: int | None
) -> BlockSizes:
    """Sizes for a gallery; a collective where it is sharded over processes.

    Args:
        similarity: the head.
        images: of all images.
        texts: of all texts.
        elements: the most that a tensor should have; by the device's memory where ``None``, and by
            that of the process with the least.
    """
    elements = elements or fewest_elements(similarity, images)
    regions, _ = _tokens_and_width(selected(similarity, images).empty)
    words, width = _tokens_and_width(selected(similarity, texts).empty)
    pair = similarity.pair_elements(regions, words, width)
    at_once = _LENGTH_GROUPS if words else _VECTORS_SHARE
    pairs = at_once * elements / pair
    texts_per_image = max(len(texts) / max(len(images), 1), 1e-9)
    most = max(1, min(even_share(len(images), regions), math.isqrt(int(pairs / texts_per_image))))
    per_unit = math.ceil(len(images) / math.ceil(len(images) / most))  # equal, to within one
    per_group = min(pairs / per_unit, _GROUP * elements / (max(words, 1) * width))
    return BlockSizes(per_unit, max(1, int(per_group)))


def length_groups(lengths: Tensor) -> list[int]:
    """Sizes of the groups of similar length in which texts are scored, the shortest first.

    A group ends where the length changes, so that in most of them nothing is padding.

    Args:
        lengths: ``(m,)`` int64, in any order.
    """
    most = math.ceil(len(lengths) / _LENGTH_GROUPS)
    fewest = max(_FEWEST_TEXTS, most // 2)
    sizes, size = [], 0
    for texts in lengths.bincount().tolist():
        size += texts
        if size >= fewest:
            parts = math.ceil(size / max(most, fewest))
            sizes += [len(part) for part in torch.arange(size).tensor_split(parts)]
            size = 0
    return [*sizes, size] if size else sizes


def pairs_at_once(similarity: Similarity, images: ShardedFeatures, texts: ShardedFeatures) -> int:
    """How many listed pairs are scored at a time; arguments as of :func:`block_sizes`."""
    regions, _ = _tokens_and_width(selected(similarity, images).empty)
    words, width = _tokens_and_width(selected(similarity, texts).empty)
    read = (max(regions, 1) + max(words, 1)) * width
    most = max(read, similarity.pair_elements(regions, words, width))
    return max(1, fewest_elements(similarity, images) // most)


def fewest_elements(similarity: Similarity, images: ShardedFeatures) -> int:
    """:func:`block_elements` of the process with the least memory; a collective."""
    own = torch.tensor([block_elements(scoring_device(similarity, images))])
    everyones = images.processes.gather(own)
    assert everyones is not None  # each process gave a row
    return int(everyones.min())


def even_share(images: int, regions: int) -> int:
    """How many images a unit has, where memory allows it.

    Args:
        images: how many there are.
        regions: tokens of an image; 0 without.
    """
    return max(_FEWEST_IMAGES if regions else _FEWEST_VECTORS, math.ceil(images / _UNITS))


def selected(similarity: Similarity, features: ShardedFeatures) -> ShardedFeatures:
    """The part of the features that the head reads.

    Raises:
        InputError: the features lack it, or they are an ensemble's and the head is no ensemble.
    """
    if isinstance(features.local, MemberFeatures) and not isinstance(similarity, Ensemble):
        n_models = len(features.local.parts)
        raise InputError(f"features of {n_models} models need an Ensemble of as many heads")
    return features.map(similarity.select)


def scoring_device(similarity: Similarity, images: ShardedFeatures) -> torch.device:
    """The head's; where it has no weights, that of the features."""
    weights = next(itertools.chain(similarity.parameters(), similarity.buffers()), None)
    return images.device if weights is None else weights.device


def ready(features: AnyFeatures, device: torch.device, head: Similarity) -> Any:
    """Features as a head scores them: without needless padding, in full precision, on the device.

    Raises:
        InputError: their lengths overflow, so that as unit vectors all of them would be zero.
    """
    features = features.trim().to(device)
    features = features.map(lambda x: at_least_float32(x) if x.is_floating_point() else x)
    members = head.each if isinstance(head, Ensemble) else [head]
    for member, part in zip(members, features.parts, strict=False):
        for values in filter(torch.is_floating_point, part.tensors()):
            if torch.linalg.vector_norm(values).isinf():
                raise _not_finite(member, "reads features whose lengths are infinite")
    return features


def check_scores(scores: Tensor, head: Similarity, images: Any, texts: Any) -> None:
    """Checks that scores are finite.

    Args:
        scores: of the head.
        head: of an ensemble, its members are asked which of them it was.
        images: that were scored, prepared.
        texts: that were scored, prepared.

    Raises:
        InputError: one is NaN or infinite; the message names the head.
    """
    # one pass where all is well; a sum of finite scores may overflow
    if scores.sum().isfinite() or scores.isfinite().all():
        return
    if isinstance(head, Ensemble):
        for member, its_images, its_texts in head.members(images, texts):
            check_scores(member.score(its_images, its_texts), member, its_images, its_texts)
    raise _not_finite(head, f"gave {'a NaN' if scores.isnan().any() else 'an infinite'} score")


def _not_finite(head: Similarity, what: str) -> InputError:
    return InputError(
        f"{type(head).__name__} {what}: training has diverged, or the features hold such numbers"
    )


def _tokens_and_width(features: AnyFeatures) -> tuple[int, int]:
    """Tokens a row, or 0, and the width of what a head reads; of several members the most."""
    tokens = [part.tokens.shape[1:] for part in features.parts if part.tokens is not None]
    if tokens:
        return max(length for length, _ in tokens), max(width for _, width in tokens)
    return 0, max(part.pooled.shape[1] for part in features.parts if part.pooled is not None)
