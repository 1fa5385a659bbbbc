"""How a pretrained vision model wants its photos."""

from __future__ import annotations

import json
import logging
from typing import Any

from PIL import Image
from torch import nn

from itm_lightning.encoders.transforms import IMAGENET_MEAN, IMAGENET_STD

logger = logging.getLogger(__name__)


def read_settings(name: str, image_size: int) -> dict[str, Any]:
    """The image processor's settings in plain values, under transformers' own names.

    Args:
        name: local folder or hub name.
        image_size: side of the photos where the model comes without an image processor.
    """
    from transformers import AutoImageProcessor

    try:
        return json.loads(AutoImageProcessor.from_pretrained(name).to_json_string())
    except (OSError, ValueError):
        logger.warning(
            "%s has no image processor: photos are resized to %d×%d and normalised as for ImageNet",
            *(name, image_size, image_size),
        )
        return {"size": {"height": image_size, "width": image_size}}


def photo_size(settings: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the photos as the model gets them."""
    size = settings["size"]
    if settings.get("do_center_crop"):
        size = settings["crop_size"]
    if "height" in size:
        return size["height"], size["width"]
    return size["shortest_edge"], size["shortest_edge"]


def resize_and_crop(settings: dict[str, Any]) -> list[nn.Module]:
    """The deterministic way to that size, for evaluation."""
    from torchvision.transforms import v2

    size = settings["size"]
    edges = [size["height"], size["width"]] if "height" in size else [size["shortest_edge"]]
    return [
        v2.Resize(edges, interpolation=interpolation(settings)),
        # also where the processor does not crop: photos of a batch have one shape
        v2.CenterCrop(list(photo_size(settings))),
    ]


def interpolation(settings: dict[str, Any]) -> Any:
    """torchvision's name for the settings' ``resample``, which is Pillow's number."""
    from torchvision.transforms import InterpolationMode

    number = settings.get("resample", Image.Resampling.BILINEAR)
    return InterpolationMode(Image.Resampling(number).name.lower())


def normalisation(settings: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the channels."""
    if not settings.get("do_normalize", True):
        return [0.0] * 3, [1.0] * 3
    return (
        settings.get("image_mean") or list(IMAGENET_MEAN),
        settings.get("image_std") or list(IMAGENET_STD),
    )
