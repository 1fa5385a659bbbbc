"""Sources and the data module."""

from itm_lightning.data.datamodule import ITMDataModule
from itm_lightning.data.karpathy import Karpathy
from itm_lightning.data.scenes import Scenes
from itm_lightning.data.source import Box, Record, Source

__all__ = ["Box", "ITMDataModule", "Karpathy", "Record", "Scenes", "Source"]
