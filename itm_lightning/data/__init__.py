"""Sources and the data module."""

from itm_lightning.data.datamodule import ITMDataModule
from itm_lightning.data.karpathy import Karpathy
from itm_lightning.data.scenes import Scenes
from itm_lightning.data.source import Box, PhotoSource, Record, RegionSource, Source

__all__ = [
    "Box",
    "ITMDataModule",
    "Karpathy",
    "PhotoSource",
    "Record",
    "RegionSource",
    "Scenes",
    "Source",
]
