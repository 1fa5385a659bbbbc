"""Image encoders of features that a source has: their base class, and RegionFeatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.encoders.base import Grid, ImageEncoder
from itm_lightning.encoders.projection import Projection
from itm_lightning.errors import InputError, Share, Size
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register
from itm_lightning.types import Features


class GivenFeatures(ImageEncoder):
    """Reads features that a source has in place of images, and refuses images.

    Attributes:
        reads: what it reads, for messages.
        source: the source that has it.
    """

    reads: str
    source: str

    @override
    def transform(self, train: bool) -> Callable[[Image.Image], Tensor]:
        """Refuses a source of images, before any work.

        Raises:
            InputError: always.
        """
        self._refuse_images()

    @override
    def trunk(self, pixels: Tensor) -> Tensor:
        self._refuse_images()

    @override
    def grid(self) -> Grid | None:
        """None: regions may have boxes instead; see ``RegionSource.region_boxes``."""
        return None

    @override
    def fingerprint(self) -> dict[str, Any] | None:
        """None: the features may come from anywhere."""
        return None

    _tokens = trunk

    def _refuse_images(self) -> NoReturn:
        raise InputError(
            f"{type(self).__name__} reads {self.reads}, not images: set data.source to "
            f"{self.source}, or model.image_encoder to an encoder of images"
        )


@register("image_encoder")
class RegionFeatures(GivenFeatures):
    """Takes precomputed regions as tokens: those of bottom-up attention, or any others.

    Args:
        dim: width of the regions; 2048 for the features published with SCAN.
        pooling: makes the pooled vector of the regions; their mean where ``None``.
        drop: probability that training leaves out a region, from 0 to below 1; at least one
            region stays. The "size augmentation" of VSE∞ (Chen et al. 2021); 0.2 in their code.
        projection: maps the regions before they are pooled; none by default.

    Raises:
        InputError: ``dim`` or ``drop`` is out of range.
    """

    reads, source = "precomputed regions", "Precomputed"

    def __init__(
        self,
        dim: Size,
        pooling: Pooling | None = None,
        drop: Share = 0.0,
        projection: Projection | None = None,
    ) -> None:
        super().__init__(trainable=False, pooling=pooling, projection=projection)
        if not 0 <= drop < 1:
            raise InputError(f"RegionFeatures: drop is {drop}; give a share from 0 to below 1")
        self.drop = drop
        self._adopt(nn.Identity(), dim)

    @override
    def forward(self, images: Tensor | Features) -> Features:
        """Regions ``(B, L, dim)``, some dropped in training, projected, and their pooling.

        Raises:
            InputError: the images are pixels, or regions of another width.
        """
        if not isinstance(images, Features) or images.tokens is None or images.mask is None:
            self._refuse_images()
        # files may be in half precision; torch's default type is that of the model
        regions, mask = images.tokens.to(torch.get_default_dtype()), images.mask
        if regions.shape[-1] != self.trunk_dim:
            raise InputError(
                f"RegionFeatures: dim is {self.trunk_dim}, but the regions are "
                f"{regions.shape[-1]} wide"
            )
        if self.training and self.drop:
            regions, mask = drop_regions(regions, mask, self.drop)
        return self._pooled(regions, mask)


def drop_regions(regions: Tensor, mask: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Leaves out a random share of each image's regions, but never all.

    Args:
        regions: ``(B, L, D)``.
        mask: ``(B, L)`` bool.
        share: probability that a region is left out.

    Returns:
        The regions that stay, moved to the front, ``(B, L', D)``, and their mask ``(B, L')``.
    """
    draws = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
    stays = (draws >= share).scatter(1, draws.argmax(dim=1, keepdim=True), True) & mask
    front = stays.int().argsort(dim=1, descending=True, stable=True)
    front = front[:, : int(stays.sum(dim=1).max())]
    kept = regions.gather(1, front.unsqueeze(-1).expand(-1, -1, regions.shape[-1]))
    return kept, stays.gather(1, front)
