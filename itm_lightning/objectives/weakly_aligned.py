"""WeaklyAligned: images and texts of the same classes, which need not be pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.errors import InputError, NotNegative, Size
from itm_lightning.objectives.base import FeatureObjective
from itm_lightning.objectives.comparison import Comparison
from itm_lightning.objectives.functional import class_cross_entropies, pooled_vectors
from itm_lightning.objectives.gaussian_mixture import Mixture, fit_mixture
from itm_lightning.part import UsesLabels
from itm_lightning.registry import register
from itm_lightning.types import Widths


@register("objective")
class WeaklyAligned(UsesLabels, FeatureObjective):
    """Classes of images and of texts by one classifier, and texts distributed as images are.

    After Castrejón, Aytar, Vondrick, Pirsiavash, Torralba: "Learning Aligned Cross-Modal
    Representations from Weakly Aligned Data", CVPR 2016 (from memory). Cross entropy of each side's
    classes (in equal parts where an item has several), through layers of its own, layers that both
    sides share, ``model.shared_projection``, and a classifier, which belongs to the objective. No
    image is compared with a text.

    *Statistical regularisation* adds ``-log p(t) / D`` of the texts' activations ``t (D,)``, those
    that the head compares, where ``p`` is the density of the images' activations there: one
    Gaussian with independent dimensions or a mixture of them, which the paper found better. It is
    fitted to the activations of the last ``bank`` images, for the first time once there are so
    many, and anew each time that as many more have been seen; before, the term is 0.

    *Modality tuning* trains the texts' own layers on shared layers that images have trained: one
    fit with ``text_weight`` 0, and one that starts from it (``--start_from``) and keeps its layers
    (a factor of 0 in ``model.lr_factors``), see ``experiments/wikipedia/weakly_aligned.yaml``. The
    classifier is learnt anew.

    Args:
        regularisation: weight of ``-log p(t) / D``; 0 leaves it out.
        components: of the mixture; 1 is the Gaussian.
        bank: images that the density is fitted to.
        text_weight: weight of the texts' cross entropy; 0 for a fit on images alone.

    Raises:
        InputError: ``components`` is below 1, or ``bank`` below ``components``.
    """

    seen: Tensor
    activations: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(
        self,
        regularisation: NotNegative = 0.1,
        components: Size = 10,
        bank: Size = 1024,
        text_weight: NotNegative = 1.0,
    ) -> None:
        super().__init__()
        if components > bank:
            raise InputError(
                f"WeaklyAligned: components is {components} and bank {bank}; give a bank of "
                "at least as many images"
            )
        self.regularisation, self.components, self.bank = regularisation, components, bank
        self.text_weight = text_weight

    @override
    def build(self, widths: Widths) -> None:
        self._dim = widths.images
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("activations", torch.zeros(self.bank, self._dim))
        self.register_buffer("weights", torch.full((self.components,), 1 / self.components))
        self.register_buffer("means", torch.zeros(self.components, self._dim))
        self.register_buffer("variances", torch.ones(self.components, self._dim))

    @override
    def build_classes(self, count: int) -> None:
        self.classifier = nn.Linear(self._dim, count)

    @override
    def loss(self, comparison: Comparison) -> Tensor:
        images, texts = (pooled_vectors(x, self) for x in (comparison.images, comparison.texts))
        labels = comparison.labels
        of_images, of_texts = (
            class_cross_entropies(self.classifier(side), labels).sum() for side in (images, texts)
        )
        total = of_images + self.text_weight * of_texts
        if self.regularisation:
            if self.training:
                self._remember(comparison.gather(images.detach()))
            if self.seen >= self.bank:
                density = Mixture(self.weights, self.means, self.variances)
                surprise = -density.log_densities(texts).sum() / self._dim
                total = total + self.regularisation * surprise.to(total.dtype)
        return total / comparison.pairs

    @torch.no_grad()
    def _remember(self, images: Tensor) -> None:
        """Takes the activations of the whole batch; fits the density where the bank is full."""
        before, images = int(self.seen), images[-self.bank :]
        self.seen += len(images)
        rows = torch.arange(before, before + len(images), device=images.device) % self.bank
        self.activations[rows] = images.to(self.activations.dtype)
        if before // self.bank < int(self.seen) // self.bank:
            fitted = fit_mixture(self.activations, self.components)
            for name, values in vars(fitted).items():
                getattr(self, name).copy_(values)
