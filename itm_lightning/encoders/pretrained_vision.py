"""The vision models of transformers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from itm_lightning.encoders.base import ImageEncoder
from itm_lightning.encoders.pretrained import (
    JointSpace,
    freeze_unreached,
    load_model,
    rebuild_model,
)
from itm_lightning.encoders.transforms import IMAGENET_MEAN, IMAGENET_STD, ToPixels, crop_and_mirror
from itm_lightning.errors import InputError, one_line
from itm_lightning.part import ExtraState, is_skipping_pretrained
from itm_lightning.pooling import FirstPooling, Pooling
from itm_lightning.registry import register
from itm_lightning.utils.pretrained_models import describe_model

logger = logging.getLogger(__name__)


@register("image_encoder")
class PretrainedVision(ImageEncoder):
    """A vision model of transformers (ViT, DINOv2, …), or the vision half of CLIP or SigLIP.

    Its tokens are the last hidden state: patches and, where there is one, the class token. Images
    are resized, cropped and normalised as the model's image processor says.

    Args:
        name: local folder or hub name.
        trainable: whether the model is trained.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        augment: crop and mirror the images in training.
        joint_space: for CLIP, SigLIP and similar models: give features in the space in which the
            model compares images and texts. The first token is then the model's own pooled vector,
            which is also the encoder's unless ``pooling`` is given. SigLIP maps no other vector:
            its further tokens are hidden states.

    Raises:
        InputError: there is no such model, it does not take images, or ``joint_space`` is set for
            a model without a joint space.
    """

    weights_from = "name"

    def __init__(
        self,
        name: str,
        trainable: bool = True,
        pooling: Pooling | None = None,
        augment: bool = False,
        joint_space: bool = False,
    ) -> None:
        if joint_space and pooling is None:
            pooling = FirstPooling()
        super().__init__(trainable, pooling, augment)
        self.name = name
        self.joint_space = joint_space
        self._model: ExtraState = {}
        self._settings: ExtraState = {}
        if not is_skipping_pretrained():
            model = load_model(name)
            image_size = getattr(_vision_half(model).config, "image_size", 224)
            self._build(model, read_settings(name, image_size))

    def transform(self, train: bool) -> Callable[[Image.Image], Tensor]:
        """Resizes and crops an image as the model's image processor does."""
        settings = self._settings
        if train and self.augment:
            size = image_size(settings)
            geometry = crop_and_mirror(size, interpolation(settings))
        else:
            geometry = resize_and_crop(settings)
        return ToPixels(geometry)

    def extra_state(self) -> ExtraState:
        """The model's architecture and the settings of its image processor."""
        return {"model": self._model, "images": self._settings}

    def load_extra_state(self, state: ExtraState) -> None:
        """Builds the model with random weights, without files or the hub."""
        if state != self.extra_state():
            self._build(rebuild_model(state["model"]), state["images"])

    def _build(self, model: Any, settings: dict[str, Any]) -> None:
        self._model, self._settings = describe_model(model), settings
        self._normalise_by(*normalisation(settings))
        network = self._network(model).eval()
        try:
            with torch.enable_grad():
                tokens = _tokens(network, torch.zeros(1, 3, *image_size(settings)))
        except (TypeError, ValueError, RuntimeError) as error:
            message = f"PretrainedVision cannot encode images with {self.name}: {one_line(error)}"
            raise InputError(message) from error
        self._adopt(network, tokens.shape[-1])
        freeze_unreached(network, tokens)

    def _network(self, model: Any) -> nn.Module:
        if not self.joint_space:
            return _vision_half(model)
        if not hasattr(model, "vision_model"):
            raise InputError(f"{self.name} has no joint space: set joint_space: false")
        return JointSpace(model.vision_model, getattr(model, "visual_projection", nn.Identity()))

    def _tokens(self, pixels: Tensor) -> Tensor:
        return _tokens(self.network, pixels)


def read_settings(name: str, image_size: int) -> dict[str, Any]:
    """The image processor's settings in plain values, with the names of transformers.

    Args:
        name: local folder or hub name.
        image_size: side of the images in pixels, used where there is no image processor.
    """
    from transformers import AutoImageProcessor

    try:
        return json.loads(AutoImageProcessor.from_pretrained(name).to_json_string())
    except (OSError, ValueError):
        logger.warning(
            "%s has no image processor: images are resized to %d×%d and normalised as for ImageNet",
            *(name, image_size, image_size),
        )
        return {"size": {"height": image_size, "width": image_size}}


def image_size(settings: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the model's input images."""
    size = settings["size"]
    if settings.get("do_center_crop"):
        size = settings["crop_size"]
    if "height" in size:
        return size["height"], size["width"]
    return size["shortest_edge"], size["shortest_edge"]


def resize_and_crop(settings: dict[str, Any]) -> list[nn.Module]:
    """The transforms to :func:`image_size` without augmentation."""
    from torchvision.transforms import v2

    size = settings["size"]
    edges = [size["height"], size["width"]] if "height" in size else [size["shortest_edge"]]
    return [
        v2.Resize(edges, interpolation=interpolation(settings)),
        # also where the processor does not crop, because the images of a batch have one shape
        v2.CenterCrop(list(image_size(settings))),
    ]


def interpolation(settings: dict[str, Any]) -> Any:
    """The settings' ``resample``, a number of Pillow's, as torchvision's interpolation mode."""
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


def _vision_half(model: Any) -> Any:
    return getattr(model, "vision_model", model)


def _tokens(network: nn.Module, pixels: Tensor) -> Tensor:
    """Tokens ``(B, L, D)``; a convolutional network's grid is flattened."""
    output = network(pixel_values=pixels)
    if isinstance(output, Tensor):  # JointSpace returns tokens
        return output
    states = output.last_hidden_state
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
