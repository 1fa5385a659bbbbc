"""The data module, and the sources that it reads: one a dataset."""

from itm_lightning.data.datamodule import ITMDataModule
from itm_lightning.data.source import Box, ImageSource, Record, RegionSource, Source, VectorSource
from itm_lightning.data.sources.coco import Coco
from itm_lightning.data.sources.coco_captions import CocoCaptions
from itm_lightning.data.sources.flickr30k import Flickr30k
from itm_lightning.data.sources.folder import Folder
from itm_lightning.data.sources.hugging_face import HuggingFace
from itm_lightning.data.sources.karpathy import Karpathy
from itm_lightning.data.sources.paired import Paired
from itm_lightning.data.sources.precomputed import Precomputed
from itm_lightning.data.sources.scenes import Scenes

__all__ = [
    "Box",
    "Coco",
    "CocoCaptions",
    "Flickr30k",
    "Folder",
    "HuggingFace",
    "ITMDataModule",
    "ImageSource",
    "Karpathy",
    "Paired",
    "Precomputed",
    "Record",
    "RegionSource",
    "Scenes",
    "Source",
    "VectorSource",
]
