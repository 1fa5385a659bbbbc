"""GroundTruth: which answers are right in a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GroundTruth:
    """What is right in a split, by image id, in the dataset's order.

    Attributes:
        texts_of_image: the ids of each image's texts. An image without texts is a distractor: it is
            ranked and counted, and asks no query.
        minimal_pairs: the id of the image that forms a minimal pair with it, in one direction or
            both.
        labels: the numbers of each image's classes; empty for a source without classes.
    """

    texts_of_image: Mapping[int, Sequence[int]]
    minimal_pairs: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[int, Sequence[int]] = field(default_factory=dict)
