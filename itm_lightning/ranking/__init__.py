"""The scoring engine: ranks and nearest neighbours in blocks, never the whole matrix."""

from itm_lightning.ranking.block_scorer import Block, BlockScorer
from itm_lightning.ranking.nearest import Neighbours, TopK, top_k
from itm_lightning.ranking.panel import Panel, block_scorer_over
from itm_lightning.ranking.ranks import (
    Ranks,
    rank,
    rank_and_top_k,
    ranks_from_scores,
    text_to_image_rows,
)

__all__ = [
    "Block",
    "BlockScorer",
    "Neighbours",
    "Panel",
    "Ranks",
    "TopK",
    "block_scorer_over",
    "rank",
    "rank_and_top_k",
    "ranks_from_scores",
    "text_to_image_rows",
    "top_k",
]
