"""Poolings: the tokens of a photo or caption become one vector."""

from itm_lightning.pooling.attention import AttentionPooling
from itm_lightning.pooling.base import Pooling
from itm_lightning.pooling.max import MaxPooling
from itm_lightning.pooling.mean import MeanPooling

__all__ = ["AttentionPooling", "MaxPooling", "MeanPooling", "Pooling"]
