"""The classification networks of torchvision, with their last grid as tokens."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from itm_lightning.encoders.base import ImageEncoder
from itm_lightning.encoders.pretrained import load_weights
from itm_lightning.encoders.projection import Projection
from itm_lightning.encoders.transforms import IMAGENET_MEAN, IMAGENET_STD, ToPixels, crop_and_mirror
from itm_lightning.errors import InputError, Size, one_line
from itm_lightning.part import is_skipping_pretrained
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register

HEADS = {"avgpool", "classifier", "fc", "head", "heads"}
"""torchvision's names for the sub-modules that follow the grid."""

TAIL = 8
"""How many operations before the head are searched for the grid.

Pooling and flattening are at most three of them.
"""

FIXED_SIZE: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit": lambda size: {"image_size": size},
    "maxvit": lambda size: {"input_size": (size, size)},
}
"""The families of networks made for one image size: the size as their builders take it."""


@register("image_encoder")
class TorchvisionCNN(ImageEncoder):
    """The grid of the last stage of a torchvision network; of a vision transformer, its patches.

    Images are squashed to a square, not cropped: a text describes the whole image.

    Args:
        name: torchvision's name for the network: ``resnet50``, ``mobilenet_v2``, …
        weights: ``None`` for random ones, ``"DEFAULT"`` to download torchvision's, or the path of
            a state dict; its classification head is ignored.
        trainable: whether the network learns.
        image_size: side of the images in pixels.
        pooling: makes the pooled vector of the grid; its mean where ``None``.
        augment: crop and mirror the images in training.
        projection: maps the grid before it is pooled; none by default.

    Raises:
        InputError: the network is unknown or does not take images of this size, or the weights
            are missing or do not fit.
    """

    weights_from = "weights"

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        trainable: bool = True,
        image_size: Size = 224,
        pooling: Pooling | None = None,
        augment: bool = False,
        projection: Projection | None = None,
    ) -> None:
        super().__init__(trainable, pooling, augment, projection)
        self.image_size = image_size
        whole = _build(name, weights, image_size)
        # below 224 pixels the last grid may have one place only, like a pooled vector
        probe_size = image_size if _family(name) in FIXED_SIZE else max(image_size, 224)
        network = cut_at_grid(whole, probe_size)
        if weights not in (None, "DEFAULT") and not is_skipping_pretrained():
            load_weights(network, str(weights), ignored=whole.state_dict())
        width = _width(network, name, image_size)
        self._normalise_by(IMAGENET_MEAN, IMAGENET_STD)
        # with the channels last in memory, convolutions take half the time on a CPU, and less on a
        # GPU in mixed precision; weights in another layout would be copied at every step
        self._adopt(network.to(memory_format=torch.channels_last), width)

    def transform(self, train: bool) -> Callable[[Image.Image], Tensor]:
        """Resizes an image to a square of side ``image_size``."""
        from torchvision.transforms import InterpolationMode, v2

        size = (self.image_size, self.image_size)
        if train and self.augment:
            geometry = crop_and_mirror(size, InterpolationMode.BILINEAR)
        else:
            geometry = [v2.Resize(size)]
        return ToPixels(geometry)

    def _tokens(self, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return as_tokens(self.network(pixels)["grid"])


def cut_at_grid(network: nn.Module, image_size: int) -> nn.Module:
    """The network up to and including its last grid.

    Args:
        network: a classification network of torchvision.
        image_size: side of an image for which the grid has more than one place.

    Returns:
        A network from pixels ``(B, 3, H, W)`` to ``{"grid": grid}``; see :func:`as_tokens`.
    """
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    in_training, in_evaluation = get_graph_node_names(network, suppress_diff_warning=True)
    names = [
        name
        for name in in_evaluation
        if name in set(in_training) and name.split(".")[0] not in HEADS
    ]
    probe = create_feature_extractor(network, names[-TAIL:], suppress_diff_warning=True)
    outputs = _of_black_image(probe, image_size)
    last = [name for name, output in outputs.items() if _has_places(output)][-1]
    return create_feature_extractor(network, {last: "grid"}, suppress_diff_warning=True)


def _of_black_image(network: nn.Module, image_size: int) -> dict[str, Tensor]:
    with torch.no_grad():
        return network.eval()(torch.zeros(1, 3, image_size, image_size))


def as_tokens(grid: Tensor) -> Tensor:
    """Grid ``(B, C, H, W)`` to ``(B, H·W, C)``; ``(B, 1 + L, C)`` without its class token."""
    return grid.flatten(2).transpose(1, 2) if grid.ndim == 4 else grid[:, 1:]


def _has_places(output: Any) -> bool:
    """Whether it is a grid ``(B, C, H, W)`` or patches ``(B, L, C)`` with more than one place."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return False
    places = output.shape[2:] if output.ndim == 4 else output.shape[1:2]
    return places.numel() > 1


def _family(name: str) -> str:
    return name.split("_")[0]


def _build(name: str, weights: str | None, image_size: int) -> nn.Module:
    """The whole classification network; weights are torchvision's own or random."""
    from torchvision import models

    if name not in models.list_models(models):
        raise InputError(_unknown_network(name))
    arguments = FIXED_SIZE.get(_family(name), lambda size: {})(image_size)
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = False  # torchvision's own initialisation is slow and warns
    download = weights == "DEFAULT" and not is_skipping_pretrained()
    try:
        network = models.get_model(name, weights="DEFAULT" if download else None, **arguments)
    except OSError as error:
        raise InputError(
            f"the default weights of {name} cannot be downloaded ({one_line(error)}); "
            "give the path of a state dict instead: weights: path/to/file.pth"
        ) from error
    except (ValueError, AssertionError) as error:
        raise InputError(f"{name} with image_size {image_size}: {one_line(error)}") from error
    if hasattr(network, "transform_input"):
        # Google's weights expect another normalisation; torchvision turns this on only where it
        # loads them itself
        network.transform_input = weights is not None
    return network


def _width(network: nn.Module, name: str, image_size: int) -> int:
    """Width of the tokens, from a run on a black image."""
    try:
        grid = _of_black_image(network, image_size)["grid"]
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"{name} does not take images of {image_size}×{image_size} pixels; "
            f"try image_size 224 ({one_line(error)})"
        ) from error
    return as_tokens(grid).shape[-1]


def _unknown_network(name: str) -> str:
    from torchvision import models

    close = difflib.get_close_matches(name, models.list_models(models), n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return (
        f"torchvision has no classification network {name!r}{guess}; "
        "torchvision.models.list_models(torchvision.models) lists them"
    )
