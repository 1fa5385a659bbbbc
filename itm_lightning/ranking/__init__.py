"""The scoring engine: ranks and nearest neighbours in blocks, never the whole matrix."""

from itm_lightning.ranking.block_scorer import Block, BlockScorer
from itm_lightning.ranking.blocks import BlockSizes
from itm_lightning.ranking.listed import (
    Stage,
    rank_sampled,
    rank_shortlist,
    score_listed,
    wrong_first,
)
from itm_lightning.ranking.nearest import Neighbours, TopK, rank_and_top_k, reduce_scores, top_k
from itm_lightning.ranking.ranks import Ranks, rank, ranks_from_scores, text_to_image_rows
from itm_lightning.ranking.rows import reduce_rows

__all__ = [
    "Block",
    "BlockScorer",
    "BlockSizes",
    "Neighbours",
    "Ranks",
    "Stage",
    "TopK",
    "rank",
    "rank_and_top_k",
    "rank_sampled",
    "rank_shortlist",
    "ranks_from_scores",
    "reduce_rows",
    "reduce_scores",
    "score_listed",
    "text_to_image_rows",
    "top_k",
    "wrong_first",
]
