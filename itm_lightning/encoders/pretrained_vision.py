"""The vision models of transformers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
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
        InputError: there is no such model, it does not take images, its image processor does what
            is not supported here, or ``joint_space`` is set for a model without a joint space.
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
        check_settings(settings, self.name)
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
        if self._settings.get("do_flip_channel_order"):
            pixels = pixels.flip(1)
        return _tokens(self.network, pixels)


def read_settings(name: str, image_size: int) -> dict[str, Any]:
    """The image processor's settings in plain values, with the names of transformers.

    Args:
        name: local folder or hub name.
        image_size: side of the images in pixels, used where there is no image processor.

    Raises:
        InputError: the folder's cannot be read.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds of errors
        file = Path(name) / "preprocessor_config.json"
        if file.exists():
            raise InputError(f"{file} is of no image processor: {one_line(error)}") from error
        logger.warning(
            "%s has no image processor: images are resized to %d×%d and normalised as for ImageNet",
            *(name, image_size, image_size),
        )
        return {"size": {"height": image_size, "width": image_size}}
    # the JSON leaves out what is None by the processor's class, which then is not done
    steps = {key: bool(getattr(processor, key, False)) for key in _STEPS}
    return {**steps, **json.loads(processor.to_json_string())}


def check_settings(settings: dict[str, Any], name: str) -> None:
    """Checks that everything an image processor does is done here too.

    Raises:
        InputError: it does more; the message names the key.
    """
    for key, value in settings.items():
        if (key in _REFUSED or (key.startswith("do_") and key not in _HONOURED)) and value:
            raise _not_honoured(name, key, value)
    size = settings.get("size")
    known = {"height", "width"}, {"shortest_edge"}
    if not isinstance(size, dict) or {k for k, v in size.items() if v is not None} not in known:
        raise _not_honoured(name, "size", size)
    if not settings.get("do_resize", True) and not settings.get("do_center_crop"):
        raise _not_honoured(name, "do_resize", False)


def _not_honoured(name: str, key: str, value: Any) -> InputError:
    return InputError(
        f"{name}: the image processor's {key}, {value}, is not supported by PretrainedVision: take "
        "another model, or change preprocessor_config.json"
    )


_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order")
# The last two are no matter of images.
_HONOURED = {*_STEPS, "do_convert_rgb", "do_reduce_labels", "do_convert_annotations"}
_REFUSED = {"max_num_patches", "crop_to_patches", "size_divisor", "pad_size"}
_CONVNEXT_WARPS_FROM = 384  # pixels


def image_size(settings: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the model's input images."""
    size = settings["size"]
    if settings.get("do_center_crop"):
        size = settings["crop_size"]
    if size.get("height"):
        return size["height"], size["width"]
    return size["shortest_edge"], size["shortest_edge"]


def resize_and_crop(settings: dict[str, Any]) -> list[nn.Module]:
    """The transforms to :func:`image_size` without augmentation."""
    from torchvision.transforms import v2

    # also where the processor does not crop, because the images of a batch have one shape
    crop = v2.CenterCrop(list(image_size(settings)))
    if not settings.get("do_resize", True):
        return [crop]
    return [v2.Resize(_edges(settings), interpolation=interpolation(settings)), crop]


def _edges(settings: dict[str, Any]) -> list[int]:
    """What an image is resized to before the crop: its shortest edge, or height and width."""
    size = settings["size"]
    height, width = size.get("height"), size.get("width")
    shortest, share = size.get("shortest_edge"), settings.get("crop_pct")
    if not share:
        return [height, width] if height else [shortest]
    of_convnext = str(settings.get("image_processor_type", "")).startswith("ConvNext")
    if of_convnext and shortest >= _CONVNEXT_WARPS_FROM:
        return [shortest, shortest]
    if height and height != width:
        return [int(height / share), int(width / share)]
    return [int((height or shortest) / share)]


def interpolation(settings: dict[str, Any]) -> Any:
    """The settings' ``resample``, a number of Pillow's, as torchvision's interpolation mode."""
    from torchvision.transforms import InterpolationMode

    number = settings.get("resample", Image.Resampling.BILINEAR)
    return InterpolationMode(Image.Resampling(number).name.lower())


def normalisation(settings: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the channels, of pixels from 0 to 1."""
    mean, std = [0.0] * 3, [1.0] * 3
    if settings.get("do_normalize", True):
        mean = _of_channels(settings.get("image_mean") or IMAGENET_MEAN)
        std = _of_channels(settings.get("image_std") or IMAGENET_STD)
    if settings.get("rescale_offset"):  # EfficientNet's pixels start at -1
        mean = [value + 1 for value in mean]
    factor = (settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale", True) else 1
    scale = 255 * factor
    again = std if settings.get("include_top") else [1.0] * 3  # EfficientNet divides twice
    return (
        [value / scale for value in mean],
        [value * other / scale for value, other in zip(std, again, strict=True)],
    )


def _of_channels(value: Any) -> list[float]:
    return [float(value)] * 3 if isinstance(value, int | float) else list(value)


def _vision_half(model: Any) -> Any:
    return getattr(model, "vision_model", model)


def _tokens(network: nn.Module, pixels: Tensor) -> Tensor:
    """Tokens ``(B, L, D)``; a convolutional network's grid is flattened."""
    output = network(pixel_values=pixels)
    if isinstance(output, Tensor):  # JointSpace returns tokens
        return output
    states = output.last_hidden_state
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
