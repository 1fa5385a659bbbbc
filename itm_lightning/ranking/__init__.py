"""The scoring engine: ranks and nearest neighbours in blocks, never the whole matrix."""

from itm_lightning.ranking.block_scorer import Block, Sweep
from itm_lightning.ranking.nearest import Neighbours, TopK, top_k
from itm_lightning.ranking.panel import Panel, sweep_over
from itm_lightning.ranking.ranks import Ranks, owners, rank, rank_and_top_k, ranks_from_scores

__all__ = [
    "Block",
    "Neighbours",
    "Panel",
    "Ranks",
    "Sweep",
    "TopK",
    "owners",
    "rank",
    "rank_and_top_k",
    "ranks_from_scores",
    "sweep_over",
    "top_k",
]
