"""The networks of timm, a thousand by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from itm_lightning.encoders.base import ImageEncoder
from itm_lightning.encoders.pretrained import freeze_unreached, load_weights
from itm_lightning.encoders.projection import Projection
from itm_lightning.encoders.transforms import ToPixels, crop_and_mirror
from itm_lightning.errors import InputError, Size, one_line
from itm_lightning.part import is_skipping_pretrained
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register


@register("image_encoder")
class TimmVision(ImageEncoder):
    """The last grid of a network of timm; of a vision transformer, its patches and class token.

    The network brings its own image size, normalisation and interpolation. Images are squashed to
    that size, not cropped: a text describes the whole image. Needs ``pip install
    "itm-lightning[timm]"``.

    Args:
        name: timm's name for the network, with or without that of its weights:
            ``resnet50``, ``vit_base_patch16_dinov3.lvd1689m``, …
        weights: ``None`` for random ones, ``"DEFAULT"`` to download timm's, or the path of a state
            dict with timm's names; its classification head is ignored.
        trainable: whether the network learns.
        image_size: side of the images in pixels; the network's own where ``None``.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.
        augment: crop and mirror the images in training.
        projection: maps the tokens before they are pooled; none by default.

    Raises:
        InputError: timm is not installed or lacks the network, the network has no grid or does not
            take images of this size, or the weights are missing or do not fit.
    """

    weights_from = "weights"

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        trainable: bool = True,
        image_size: Size | None = None,
        pooling: Pooling | None = None,
        augment: bool = False,
        projection: Projection | None = None,
    ) -> None:
        super().__init__(trainable, pooling, augment, projection)
        network, settings = _build(name, weights, image_size)
        self._size = settings["input_size"][1:] if image_size is None else (image_size, image_size)
        self._interpolation = settings["interpolation"]
        if weights not in (None, "DEFAULT") and not is_skipping_pretrained():
            load_weights(network, str(weights), ignored=_names_of_head(name))
        self._normalise_by(settings["mean"], settings["std"])
        try:
            with torch.enable_grad():
                grid = network.eval().forward_features(torch.zeros(1, 3, *self._size))
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"{name} does not take images of {self._size[0]}×{self._size[1]} pixels: leave "
                f"image_size out ({one_line(error)})"
            ) from error
        tokens = _as_tokens(grid, network)
        self._adopt(network, tokens.shape[-1])
        freeze_unreached(network, tokens)  # what follows the grid

    def transform(self, train: bool) -> Callable[[Image.Image], Tensor]:
        """Resizes an image to the network's size."""
        from torchvision.transforms import InterpolationMode, v2

        mode = InterpolationMode(self._interpolation)
        if train and self.augment:
            return ToPixels(crop_and_mirror(self._size, mode))
        return ToPixels([v2.Resize(list(self._size), interpolation=mode)])

    def _tokens(self, pixels: Tensor) -> Tensor:
        return _as_tokens(self.network.forward_features(pixels), self.network)  # type: ignore[operator]


def _as_tokens(features: Any, network: Any) -> Tensor:
    """Tokens ``(B, L, C)`` of a grid in either layout, or of tokens.

    Raises:
        InputError: the features are neither.
    """
    if isinstance(features, Tensor) and features.ndim == 3:
        return features
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise InputError(
            f"{type(network).__name__} gives neither a grid nor tokens: choose another network"
        )
    # Swin and its kin keep the channels last
    channels_first = features.shape[1] == network.num_features
    return features.flatten(2).mT if channels_first else features.flatten(1, 2)


def _build(name: str, weights: str | None, image_size: int | None) -> tuple[Any, dict[str, Any]]:
    """The network without its head, and timm's settings of its images."""
    timm = _timm()
    if not timm.is_model(name):
        raise InputError(_unknown_network(name))
    download = weights == "DEFAULT" and not is_skipping_pretrained()
    arguments = {"num_classes": 0, "pretrained": download}
    if image_size is not None and _is_of_one_size(name):
        arguments["img_size"] = image_size
    try:
        network = timm.create_model(name, **arguments)
    except (OSError, RuntimeError) as error:
        if not download:
            raise InputError(f"{name}: {one_line(error)}") from error
        raise InputError(
            f"the default weights of {name} cannot be downloaded ({one_line(error)}); "
            "give the path of a state dict instead: weights: path/to/file.safetensors"
        ) from error
    except TypeError as error:
        raise InputError(f"{name} with image_size {image_size}: {one_line(error)}") from error
    return network, timm.data.resolve_model_data_config(network)


def _is_of_one_size(name: str) -> bool:
    """Whether the network is made for one image size, as vision transformers are."""
    settings = _timm().get_pretrained_cfg(name)
    return settings is not None and bool(settings.fixed_input_size)


def _names_of_head(name: str) -> set[str]:
    """Names of a state dict's tensors that the network without its head lacks."""
    with torch.device("meta"):  # names alone: no numbers are drawn
        return set(_timm().create_model(name).state_dict())


def _unknown_network(name: str) -> str:
    close = difflib.get_close_matches(name, _timm().list_models(), n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"timm has no network {name!r}{guess}; timm.list_models() lists them"


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            'TimmVision needs timm, which is not installed: pip install "itm-lightning[timm]"'
        ) from error
    return timm
