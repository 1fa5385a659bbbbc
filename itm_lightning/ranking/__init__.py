"""The scoring engine: ranks and nearest neighbours in blocks, never the whole matrix."""

from itm_lightning.ranking.nearest import Neighbours, TopK, top_k
from itm_lightning.ranking.ranks import Ranks, owners, rank, rank_and_top_k, ranks_from_scores
from itm_lightning.ranking.sweep import Block, Sweep

__all__ = [
    "Block",
    "Neighbours",
    "Ranks",
    "Sweep",
    "TopK",
    "owners",
    "rank",
    "rank_and_top_k",
    "ranks_from_scores",
    "top_k",
]
