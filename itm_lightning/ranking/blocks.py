"""How much memory a block may take.

Which photos and captions are scored together.

Blocks depend on the sizes of the gallery, on the head and on a budget of memory, never on how many
processes share them: so every block is computed from the same numbers in the same shapes whichever
process computes it, and gives the same scores to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itm_lightning.distributed import ShardedFeatures
from itm_lightning.ranking.block_scorer import LENGTH_GROUPS, scoring_device
from itm_lightning.ranking.members import members_of
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features

# A block that leaves the caches of a core is scored more slowly, however much memory there is.
_CPU_BYTES = 64 * 2**20
# Of all there is, not of what is free: blocks must not differ from one run to the next.
_GPU_SHARE = 1 / 32
_GPU_SHARE_OF_FEATURES = 1 / 4  # of a gallery; weights and blocks need room, too
_BYTES = 4  # scores are float32
_TENSORS = 4  # about so many tensors of a block's size live at a time


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


_UNITS = 64  # so many processes find work of one size
_FEWEST_IMAGES = 32  # of a unit: in smaller blocks a pair takes longer
_FEWEST_VECTORS = 256  # the same, where a photo is a single vector
_GROUP = 2  # the features of a group of captions are so many tensors of a block's size at most


@dataclass(frozen=True)
class BlockSizes:
    """Sizes of blocks.

    Attributes:
        images: of a unit, which one process scores against everything.
        texts: of a group, which all processes meet at a time.
    """

    images: int
    texts: int


def block_sizes(
    similarity: Similarity, images: ShardedFeatures, texts: ShardedFeatures, elements: int | None
) -> BlockSizes:
    """The block_sizes of a gallery; a collective where it is spread over processes.

    Of several models' features, one that is fine enough for each.

    Args:
        similarity: the head.
        images: of all photos.
        texts: of all captions.
        elements: the most that a tensor should have; by the device's memory where ``None``, and by
            that of the process with the least.
    """
    members = members_of(similarity, images, texts)
    fit = [_block_sizes(m.similarity, m.images, m.texts, elements) for m in members]
    return BlockSizes(min(each.images for each in fit), min(each.texts for each in fit))


def _block_sizes(
    similarity: Similarity, images: ShardedFeatures, texts: ShardedFeatures, elements: int | None
) -> BlockSizes:
    if elements is None:
        own = torch.tensor([block_elements(scoring_device(similarity, images))])
        everybody = images.processes.gather(own)
        assert everybody is not None
        elements = int(everybody.min())
    kept = [side.map(similarity.select) for side in (images, texts)]
    regions, words = (side.length for side in kept)
    width = _width(kept[1].local)
    pair = similarity.pair_elements(regions, words, width)
    pairs = (LENGTH_GROUPS if words else 1) * elements / pair  # that are scored at a time
    texts_each = max(len(texts) / max(len(images), 1), 1e-9)
    most = max(1, min(even_share(len(images), regions), math.isqrt(int(pairs / texts_each))))
    per_unit = math.ceil(len(images) / math.ceil(len(images) / most))  # all alike, to within one
    per_group = min(pairs / per_unit, _GROUP * elements / (max(words, 1) * width))
    return BlockSizes(per_unit, max(1, int(per_group)))


def even_share(images: int, regions: int) -> int:
    """How many photos a unit has, where memory lets it.

    Args:
        images: how many there are.
        regions: tokens of a photo; 0 without.
    """
    return max(_FEWEST_IMAGES if regions else _FEWEST_VECTORS, math.ceil(images / _UNITS))


def _width(features: Features) -> int:
    values = features.pooled if features.tokens is None else features.tokens
    assert values is not None  # Features has one or both
    return values.shape[-1]
