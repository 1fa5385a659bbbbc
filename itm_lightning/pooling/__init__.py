"""Poolings: the tokens of an image or text become one vector."""

from itm_lightning.pooling.attention import AttentionPooling
from itm_lightning.pooling.base import Pooling
from itm_lightning.pooling.first import FirstPooling
from itm_lightning.pooling.gpo import GPO
from itm_lightning.pooling.k_max import KMaxPooling
from itm_lightning.pooling.last import LastPooling
from itm_lightning.pooling.max import MaxPooling
from itm_lightning.pooling.mean import MeanPooling
from itm_lightning.pooling.recurrent import RecurrentPooling
from itm_lightning.pooling.region_graph import RegionGraph

__all__ = [
    "GPO",
    "AttentionPooling",
    "FirstPooling",
    "KMaxPooling",
    "LastPooling",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "RecurrentPooling",
    "RegionGraph",
]
