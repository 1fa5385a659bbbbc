"""What a variant costs and does, measured on the spot from its first seed's best checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One variant, measured.

    Attributes:
        head_parameters: of the similarity.
        ms_per_1000_pairs: milliseconds to score 1,000 pairs of encoded images and texts; what the
            head does once a side is included.
        peak_mb: megabytes that scoring such a block allocates at most, beside its input.
        indexable: whether its scores are inner products of vectors, which an index can search.
        disagreements: the queries on which variants differ most, the same ones for every variant:
            ``{"direction": "i2t" | "t2i", "query": id, "ranks": {label: rank}, "top":
            [{"id", "score", "is_right"}, …]}`` with this variant's five best answers. Ids are of
            images and texts as in the records.
        hub: with ``--hub_correction``: ``{"correction": its name, "before": {…}, "after": {…}}``,
            both with the scores (``i2t_R@1``, …, ``rsum``) and, by direction, the hubness:
            ``i2t_skewness``, ``i2t_anti_hubs`` (a share), ``t2i_skewness``, ``t2i_anti_hubs``.
        explanation: measures of its word maps, by name.
    """

    head_parameters: int
    ms_per_1000_pairs: float
    peak_mb: float
    indexable: bool
    disagreements: list[dict[str, Any]]
    hub: dict[str, Any] | None
    explanation: dict[str, float] | None
