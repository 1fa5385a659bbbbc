"""Encoders: images and texts become Features."""

from itm_lightning.encoders.bag_of_words import BagOfWords
from itm_lightning.encoders.base import (
    Encoder,
    ImageEncoder,
    TextEncoder,
)
from itm_lightning.encoders.patch_cnn import PatchCNN
from itm_lightning.encoders.pretrained_text import PretrainedText
from itm_lightning.encoders.pretrained_vision import PretrainedVision
from itm_lightning.encoders.projection import (
    LinearProjection,
    MLPProjection,
    NoProjection,
    Projection,
)
from itm_lightning.encoders.recurrent_text import RecurrentText
from itm_lightning.encoders.region_features import RegionFeatures
from itm_lightning.encoders.timm_vision import TimmVision
from itm_lightning.encoders.torchvision_cnn import TorchvisionCNN
from itm_lightning.encoders.vectors import ImageVectors, TextVectors
from itm_lightning.encoders.vocabulary import Vocabulary
from itm_lightning.encoders.word_pieces import WordPieces

__all__ = [
    "BagOfWords",
    "Encoder",
    "ImageEncoder",
    "ImageVectors",
    "LinearProjection",
    "MLPProjection",
    "NoProjection",
    "PatchCNN",
    "PretrainedText",
    "PretrainedVision",
    "Projection",
    "RecurrentText",
    "RegionFeatures",
    "TextEncoder",
    "TextVectors",
    "TimmVision",
    "TorchvisionCNN",
    "Vocabulary",
    "WordPieces",
]
