"""Any vision model of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from itm_lightning.encoders import photo_settings
from itm_lightning.encoders.base import Assets, ImageEncoder, is_restoring
from itm_lightning.encoders.pretrained import (
    describe_model,
    freeze_unreached,
    load_model,
    rebuild_model,
)
from itm_lightning.encoders.transforms import ToPixels, crop_and_mirror
from itm_lightning.errors import InputError, one_line
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register


@register("image_encoder")
class PretrainedVision(ImageEncoder):
    """A vision model of transformers (ViT, DINOv2, …), or the vision half of CLIP or SigLIP.

    Its tokens are the last hidden state: patches and, where there is one, the class token. Photos
    are resized, cropped and normalised as the model's image processor says.

    Args:
        name: local folder or hub name.
        trainable: whether the model learns.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        augment: crop and mirror the photos in training.

    Raises:
        InputError: there is no such model, or it is none for photos.
    """

    weights_from = "name"

    def __init__(
        self,
        name: str,
        trainable: bool = True,
        pooling: Pooling | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__(trainable, pooling, augment)
        self.name = name
        self._model: Assets = {}
        self._settings: Assets = {}
        if not is_restoring():
            model = load_model(name)
            image_size = getattr(_vision_half(model).config, "image_size", 224)
            self._build(model, photo_settings.read_settings(name, image_size))

    def transform(self, train: bool) -> Callable[[Image.Image], Tensor]:
        """Resizes and crops a photo as the model's image processor says."""
        settings = self._settings
        if train and self.augment:
            size = photo_settings.photo_size(settings)
            geometry = crop_and_mirror(size, photo_settings.interpolation(settings))
        else:
            geometry = photo_settings.resize_and_crop(settings)
        return ToPixels(geometry)

    def assets(self) -> Assets:
        """The model's architecture, and how it wants its photos."""
        return {"model": self._model, "photos": self._settings}

    def restore(self, assets: Assets) -> None:
        """Builds the model with random weights; reads no file and no hub."""
        if assets != self.assets():
            self._build(rebuild_model(assets["model"]), assets["photos"])

    def _build(self, model: Any, settings: dict[str, Any]) -> None:
        self._model, self._settings = describe_model(model), settings
        self._normalise_by(*photo_settings.normalisation(settings))
        network = _vision_half(model).eval()
        try:
            with torch.enable_grad():
                tokens = _tokens(network, torch.zeros(1, 3, *photo_settings.photo_size(settings)))
        except (TypeError, ValueError, RuntimeError) as error:
            message = f"PretrainedVision cannot show photos to {self.name}: {one_line(error)}"
            raise InputError(message) from error
        self._adopt(network, tokens.shape[-1])
        freeze_unreached(network, tokens)

    def _tokens(self, pixels: Tensor) -> Tensor:
        return _tokens(self.network, pixels)


def _vision_half(model: Any) -> Any:
    return getattr(model, "vision_model", model)


def _tokens(network: nn.Module, pixels: Tensor) -> Tensor:
    """Tokens ``(B, L, D)``; a convolutional network's grid is flattened."""
    states = network(pixel_values=pixels).last_hidden_state
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
