"""Sources and the data module."""

from itm_lightning.data.coco import Coco
from itm_lightning.data.coco_captions import CocoCaptions
from itm_lightning.data.datamodule import ITMDataModule
from itm_lightning.data.flickr30k import Flickr30k
from itm_lightning.data.folder import Folder
from itm_lightning.data.karpathy import Karpathy
from itm_lightning.data.precomputed import Precomputed
from itm_lightning.data.scenes import Scenes
from itm_lightning.data.source import Box, PhotoSource, Record, RegionSource, Source

__all__ = [
    "Box",
    "Coco",
    "CocoCaptions",
    "Flickr30k",
    "Folder",
    "ITMDataModule",
    "Karpathy",
    "PhotoSource",
    "Precomputed",
    "Record",
    "RegionSource",
    "Scenes",
    "Source",
]
