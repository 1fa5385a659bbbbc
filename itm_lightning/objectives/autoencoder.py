"""What autoencoders of images and texts share: decoders, and errors of reconstruction."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import InputError, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import pooled_vectors
from itm_lightning.types import Features, Widths, at_least_float32, full_precision

#: What the numbers of a vector are: real; from 0 to 1, each by itself; counts or shares of words.
Units = Literal["gaussian", "binary", "softmax"]
_UNITS = ("gaussian", "binary", "softmax")
_TINY = 1e-12


class Autoencoder(FeatureObjective):
    """Decodes the encoders' vectors from codes.

    A code is the sigmoid of what a projection gives; compare codes by
    :class:`~itm_lightning.similarity.CodeCosine`. What is reconstructed are the pooled vectors of
    both encoders, before the projections, as constants: encoders should be frozen, or pass stored
    vectors on. The decoders' hidden layers are sigmoids; they mirror projections
    ``MLPProjection(hidden=…, layers=…, activation="sigmoid")`` of the same numbers.

    Args:
        hidden: width of the decoders' hidden layers.
        layers: how many hidden layers a decoder has.
        image_units: what the numbers of an image's vector are; this decides the error by which
            their reconstruction is measured, see :func:`reconstruction_errors`.
        text_units: the same of a text's vector.

    Raises:
        InputError: a number is below 1, or there are no such units.
    """

    #: Of each decoder the side whose code it reads (``"joint"``: any), and which it reconstructs.
    decoded: tuple[tuple[str, str], ...]

    def __init__(
        self,
        hidden: Size = 1024,
        layers: Size = 1,
        image_units: Units = "gaussian",
        text_units: Units = "gaussian",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for units in (image_units, text_units):
            if units not in _UNITS:
                raise InputError(f"{name}: there are no units {units!r}; use one of {list(_UNITS)}")
        self.hidden, self.layers = hidden, layers
        self.units: dict[str, Units] = {"image": image_units, "text": text_units}

    @override
    def build(self, widths: Widths) -> None:
        if widths.images != widths.texts:
            raise InputError(
                f"{type(self).__name__} ties codes of one width, but images have {widths.images} "
                f"numbers and texts {widths.texts}: give both projections the same dim"
            )
        self.decoders = nn.ModuleDict()
        for source, side in self.decoded:
            out = widths.encoded_images if side == "image" else widths.encoded_texts
            pairs = itertools.pairwise([widths.images, *[self.hidden] * self.layers, out])
            layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.Sigmoid())]
            self.decoders[f"{source}_to_{side}"] = nn.Sequential(*layers[:-1])

    def codes(self, features: Features) -> Tensor:
        """Codes ``(B, dim)`` of projected images or texts, between 0 and 1."""
        return pooled_vectors(features, self).sigmoid()

    def errors(self, comparison: Comparison, codes: Tensor, source: str, side: str) -> Tensor:
        """This process's share of the mean error of what a decoder makes of codes, a scalar.

        The error of real numbers is a share of their variance in the batch, so that 1 is that of
        the mean, whatever the scale of the encoder (with standardised vectors, it is the mean of
        the squared errors). That of others is a mean over the numbers, or over the text's words.

        Args:
            comparison: the batch.
            codes: ``(b, dim)``.
            source: whose codes they are, as :attr:`decoded` names it.
            side: ``"image"`` or ``"text"``, what is reconstructed.

        Raises:
            InputError: only the projected features were kept.
        """
        encoded = comparison.encoded
        features = encoded.encoded_images if side == "image" else encoded.encoded_texts
        if features is None:
            raise InputError(
                f"{type(self).__name__} reconstructs the encoders' features, and "
                "model.gradient_cache keeps only projected ones: leave it out"
            )
        vectors, units = pooled_vectors(features, self).detach(), self.units[side]
        if units == "gaussian":
            everyones = comparison.gather(vectors)
            scale = everyones.var(dim=0, correction=0).sum().clamp(min=_TINY)
        elif units == "softmax":
            scale = vectors.sum(dim=1).clamp(min=_TINY)
        else:
            scale = vectors.new_tensor(vectors.shape[1])
        decoded = self.decoders[f"{source}_to_{side}"](codes)
        return (reconstruction_errors(decoded, vectors, units) / scale).sum() / comparison.pairs

    def reconstruct_images(self, texts: Features) -> Tensor:
        """The image encoder's vectors, guessed from texts alone.

        Args:
            texts: ``B`` texts, projected, as ``Matcher.encode_texts`` gives them.

        Returns:
            ``(B, D)``: real numbers, probabilities, or shares that add up to 1, by the units.
        """
        return self._reconstruct(texts, "text", "image")

    def reconstruct_texts(self, images: Features) -> Tensor:
        """The text encoder's vectors, guessed from images alone, likewise."""
        return self._reconstruct(images, "image", "text")

    @torch.no_grad()
    def _reconstruct(self, features: Features, source: str, side: str) -> Tensor:
        # by a decoder that was trained on codes of that side, or on codes that are tied to them
        names = [name for name in self.decoders if name.endswith(f"_to_{side}")]
        name = next((name for name in names if name.startswith(source)), names[0])
        decoded = at_least_float32(self.decoders[name](self.codes(features)))
        means = {"gaussian": decoded, "binary": decoded.sigmoid(), "softmax": decoded.softmax(1)}
        return means[self.units[side]]


def reconstruction_errors(decoded: Tensor, vectors: Tensor, units: Units) -> Tensor:
    """Minus the log likelihood ``(b,)`` of vectors, up to constants, summed over their numbers.

    Args:
        decoded: ``(b, D)`` what the decoder gives: means; or logits of ``"binary"`` numbers; or of
            a distribution over the words, ``"softmax"``.
        vectors: ``(b, D)``: real; from 0 to 1; at least 0.
        units: ``"gaussian"`` for the squared error, else for the cross entropy.
    """
    with full_precision(decoded):
        decoded = at_least_float32(decoded)
        if units == "gaussian":
            return (decoded - vectors).square().sum(dim=1)
        if units == "binary":
            each = F.binary_cross_entropy_with_logits(decoded, vectors, reduction="none")
            return each.sum(dim=1)
        return -(vectors * decoded.log_softmax(dim=1)).sum(dim=1)
