"""CorrAE, CorrCrossAE and CorrFullAE: autoencoders whose codes correspond."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.objectives.autoencoder import Autoencoder, Units
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.registry import register

# Codes that deviate less from their mean than this are said to have collapsed; codes that have
# been learnt do so by 0.1 and more.
_SMALLEST_DEVIATION = 0.005


@register("objective")
class CorrAE(Autoencoder):
    """The correspondence autoencoder: each side's code decodes that side, and the two are near.

    Feng, Wang, Li: "Cross-modal Retrieval with Correspondence Autoencoder", ACM MM 2014:
    ``(1 - α) (Lᵢ + Lₜ) + α ‖f(i) - g(t)‖²``, after a description; ``α`` is from memory. All three
    terms are means over dimensions (over a text's words), so that α does not depend on widths.
    Codes are sigmoids: others would come as near by shrinking. Codes that come near by being all
    the same are warned of in validation.

    Args:
        alpha: ``α``, the weight of the distance; by default 0.8, for ``CorrCrossAE`` 0.2.
        hidden: width of the decoders' hidden layers.
        layers: how many hidden layers a decoder has.
        image_units: what the numbers of an image's vector are, see
            :class:`~itm_lightning.objectives.autoencoder.Autoencoder`.
        text_units: the same of a text's vector.

    Raises:
        InputError: a number is out of range, or there are no such units.
    """

    decoded: tuple[tuple[str, str], ...] = (("image", "image"), ("text", "text"))
    usual_alpha = 0.8

    def __init__(
        self,
        alpha: float | None = None,
        hidden: Size = 1024,
        layers: Size = 1,
        image_units: Units = "gaussian",
        text_units: Units = "gaussian",
    ) -> None:
        super().__init__(hidden, layers, image_units, text_units)
        self.alpha = self.usual_alpha if alpha is None else alpha
        if not 0 <= self.alpha < 1:
            raise InputError(
                f"{type(self).__name__}: alpha is {alpha}; it must be at least 0, and below 1"
            )

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        codes = {"image": self.codes(comparison.images), "text": self.codes(comparison.texts)}
        if not self.training:
            self._warn_of_collapse(codes["image"])
        distances = (codes["image"] - codes["text"]).square().mean(dim=1)
        errors = torch.stack(
            [self.errors(comparison, codes[source], source, side) for source, side in self.decoded]
        )
        return (1 - self.alpha) * errors.sum() + self.alpha * distances.sum() / comparison.pairs

    def _warn_of_collapse(self, codes: Tensor) -> None:
        if len(codes) > 1 and codes.std(dim=0).mean() < _SMALLEST_DEVIATION:
            warnings.warn(
                f"{type(self).__name__}: the codes of all images are the same (they deviate by "
                f"less than {_SMALLEST_DEVIATION}), the shortest way to equal codes of both "
                "sides: lower alpha",
                stacklevel=3,
            )


@register("objective")
class CorrCrossAE(CorrAE):
    """The cross-modal variant of :class:`CorrAE`: each side's code decodes the other side."""

    decoded = (("image", "text"), ("text", "image"))
    usual_alpha = 0.2


@register("objective")
class CorrFullAE(CorrAE):
    """The full variant of :class:`CorrAE`: each side's code decodes both sides."""

    decoded = (("image", "image"), ("image", "text"), ("text", "image"), ("text", "text"))
