"""ScaledCosine: the cosine with a learnt scale and bias, as CLIP and SigLIP score."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, Positive, one_line
from itm_lightning.part import is_skipping_pretrained
from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.types import Features, at_least_float32, unit
from itm_lightning.utils.pretrained_models import refuse_kernels


@register("similarity")
class ScaledCosine(InnerProductSimilarity):
    """``scale · cos(v, t) + bias`` of the pooled vectors, with a learnt scale and bias.

    These are the logits of CLIP (Radford et al.: "Learning Transferable Visual Models From Natural
    Language Supervision", ICML 2021, section 2.3; its bias is 0) and of SigLIP (Zhai, Mustafa,
    Kolesnikov, Beyer: "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, section 3). With
    ``pretrained``, and encoders that keep that model's joint space, the scores equal its logits.
    The scale takes the place of a temperature: train it with
    ``InfoNCE(temperature=1.0, learnable=False)``.

    Args:
        scale: at the start; the logarithm is the parameter, so that it stays positive.
        bias: at the start.
        pretrained: local folder or hub name of a CLIP or SigLIP of transformers, whose scale and
            bias replace the two above.

    Raises:
        InputError: the scale is not positive, or ``pretrained`` cannot be loaded or has no scale.
    """

    def __init__(
        self, scale: Positive = 1.0, bias: float = 0.0, pretrained: str | None = None
    ) -> None:
        super().__init__()
        log_scale = math.log(scale)
        # a checkpoint that is being read brings both numbers
        if pretrained is not None and not is_skipping_pretrained():
            log_scale, bias = _log_scale_and_bias(pretrained)
        self.log_scale = nn.Parameter(torch.tensor(log_scale))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    @property
    def temperature(self) -> Tensor:
        """What cosines are divided by: 1 / scale."""
        return at_least_float32(-self.log_scale).exp()

    @override
    def embed_images(self, images: Features) -> Tensor:
        return unit(self.pooled(images))

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        return unit(self.pooled(texts))

    @override
    def score_of_inner_product(self, products: Tensor) -> Tensor:
        """``scale · p + bias``."""
        return at_least_float32(self.log_scale).exp() * products + at_least_float32(self.bias)


def _log_scale_and_bias(name: str) -> tuple[float, float]:
    """Both numbers of a model of transformers; the bias is 0 where it has none.

    Raises:
        InputError: the model cannot be loaded, or has no scale.
    """
    from transformers import AutoModel

    try:
        refuse_kernels(name)
        model: Any = AutoModel.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # transformers raises exceptions of many types
        raise InputError(
            f"ScaledCosine: pretrained {name!r} is no local folder that save_pretrained wrote, and "
            f"no model in the hub or its cache (transformers says: {one_line(error)})"
        ) from error
    if not hasattr(model, "logit_scale"):
        raise InputError(
            f"ScaledCosine: pretrained {name!r} is a {type(model).__name__}, which has no "
            "logit_scale: name a CLIP or SigLIP, or set scale and bias"
        )
    bias = model.logit_bias.item() if hasattr(model, "logit_bias") else 0.0
    return model.logit_scale.item(), bias
