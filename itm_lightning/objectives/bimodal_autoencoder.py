"""BimodalAutoencoder: one code of image and text, from which both are decoded."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.objectives.autoencoder import Autoencoder
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import pooled_vectors
from itm_lightning.registry import register


@register("objective")
class BimodalAutoencoder(Autoencoder):
    """Image and text are decoded from the code of both, and from that of either alone.

    The bimodal deep autoencoder of Ngiam, Khosla, Kim, Nam, Lee, Ng: "Multimodal Deep Learning",
    ICML 2011, section 4 (there of audio and video), after a description: each side has layers of
    its own, a shared layer ``sigmoid(aᵢ + aₜ)`` joins them, and decoders mirror them. The batch is
    trained on three times, with both sides, with the image alone (``aₜ = 0``) and with the text
    alone (``aᵢ = 0``); both are always reconstructed, and the loss is the mean of the three.
    With both sides always there the code would ignore the weaker one.

    ``aᵢ`` and ``aₜ`` are what the projections give: the shared layer is their last linear map, with
    a bias for each side. At test an image's code is compared with a text's, see
    :class:`~itm_lightning.similarity.CodeCosine`. As published, layers start from restricted
    Boltzmann machines: :class:`~itm_lightning.training.RBMPretraining`.

    Arguments are those of :class:`~itm_lightning.objectives.autoencoder.Autoencoder`.
    """

    decoded = (("joint", "image"), ("joint", "text"))

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        images, texts = (
            pooled_vectors(side, self) for side in (comparison.images, comparison.texts)
        )
        codes = [(images + texts).sigmoid(), images.sigmoid(), texts.sigmoid()]
        errors = [
            self.errors(comparison, code, "joint", side)
            for code in codes
            for side in ("image", "text")
        ]
        return torch.stack(errors).sum() / len(codes)
