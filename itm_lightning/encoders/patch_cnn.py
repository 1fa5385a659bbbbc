"""A classification network of torchvision on each patch of an image by itself."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.encoders.projection import Projection
from itm_lightning.encoders.torchvision_cnn import TorchvisionCNN
from itm_lightning.errors import InputError, Size
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register


@register("image_encoder")
class PatchCNN(TorchvisionCNN):
    """Cuts images into equal patches; a token is the mean of the network's grid over one patch.

    FashionBERT (Gao et al., SIGIR 2020, section 3.1) reads 8 × 8 patches, each through a frozen
    ResNet-50. In contrast to a grid, a patch knows nothing of its neighbours.

    Args:
        name: as of :class:`TorchvisionCNN`, and so are the other arguments.
        weights: see there.
        trainable: whether the network learns.
        image_size: side of the images in pixels; a multiple of ``patches``.
        patches: in a row, and in a column.
        pooling: makes the pooled vector of the patches; their mean where ``None``.
        augment: crop and mirror the images in training.
        projection: maps the patches before they are pooled; none by default.

    Raises:
        InputError: ``image_size`` is no multiple of ``patches``; or as :class:`TorchvisionCNN`.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        trainable: bool = True,
        image_size: Size = 256,
        patches: Size = 8,
        pooling: Pooling | None = None,
        augment: bool = False,
        projection: Projection | None = None,
    ) -> None:
        if image_size % patches:
            raise InputError(
                f"PatchCNN: image_size is {image_size} and patches {patches}; the first must be a "
                "multiple of the second"
            )
        self.patches = patches
        super().__init__(name, weights, trainable, image_size, pooling, augment, projection)

    @override
    def _tokens(self, pixels: Tensor) -> Tensor:
        size = self.image_size // self.patches
        # (B, 3, rows, columns, size, size), and then one patch after another
        patches = pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)
        tokens = super()._tokens(patches.flatten(0, 2)).mean(dim=1)
        return tokens.unflatten(0, (len(pixels), -1))
