"""The scoring engine: ranks and nearest neighbours in blocks, never the whole matrix."""

from itm_lightning.ranking.block_scorer import Block, BlockScorer
from itm_lightning.ranking.blocks import BlockSizes
from itm_lightning.ranking.nearest import Neighbours, TopK, rank_and_top_k, reduce_scores, top_k
from itm_lightning.ranking.ranks import Ranks, rank, ranks_from_scores, text_to_image_rows

__all__ = [
    "Block",
    "BlockScorer",
    "BlockSizes",
    "Neighbours",
    "Ranks",
    "TopK",
    "rank",
    "rank_and_top_k",
    "ranks_from_scores",
    "reduce_scores",
    "text_to_image_rows",
    "top_k",
]
