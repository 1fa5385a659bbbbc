"""Evaluation protocols: what a published score was computed over, one a file."""

from itm_lightning.metrics.protocols.base import Evaluation, Protocol
from itm_lightning.metrics.protocols.class_map import ClassMAP
from itm_lightning.metrics.protocols.coco_1k import Coco1K
from itm_lightning.metrics.protocols.coco_5k import Coco5K
from itm_lightning.metrics.protocols.cxc import CxC
from itm_lightning.metrics.protocols.eccv_caption import EccvCaption
from itm_lightning.metrics.protocols.flickr30k_1k import Flickr30k1K
from itm_lightning.metrics.protocols.graded_class_map import GradedClassMAP
from itm_lightning.metrics.protocols.retrieval import Retrieval
from itm_lightning.metrics.protocols.sampled_negatives import SampledNegatives
from itm_lightning.metrics.protocols.shortlist import Shortlist
from itm_lightning.metrics.protocols.transductive_class_map import TransductiveClassMAP

__all__ = [
    "ClassMAP",
    "Coco1K",
    "Coco5K",
    "CxC",
    "EccvCaption",
    "Evaluation",
    "Flickr30k1K",
    "GradedClassMAP",
    "Protocol",
    "Retrieval",
    "SampledNegatives",
    "Shortlist",
    "TransductiveClassMAP",
]
