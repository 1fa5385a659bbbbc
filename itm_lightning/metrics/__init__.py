"""Metrics: retrieval recall, exact over the whole gallery; protocols; and minimal pairs."""

from itm_lightning.metrics import protocols
from itm_lightning.metrics.functional import recall_from_ranks, retrieval_recall
from itm_lightning.metrics.gallery import Gallery
from itm_lightning.metrics.minimal_pairs import pairs_accuracy
from itm_lightning.metrics.recall import BidirectionalRecall

__all__ = [
    "BidirectionalRecall",
    "Gallery",
    "pairs_accuracy",
    "protocols",
    "recall_from_ranks",
    "retrieval_recall",
]
