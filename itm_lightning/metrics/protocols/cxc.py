"""CxC: COCO 5K by the judgements of Crisscrossed Captions."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.metrics.precision import hit_rate
from itm_lightning.metrics.protocols.judged import JudgedCoco
from itm_lightning.registry import register


@register("protocol")
class CxC(JudgedCoco):
    """The scores of :class:`Coco5K`, and the recalls of Crisscrossed Captions.

    Parekh et al. (2021), Crisscrossed Captions: extended intramodal and intermodal semantic
    similarity judgments for MS-COCO, section 4. The queries are 5,000 images and 24,972 texts of
    COCO's Karpathy test split. Adds ``cxc_i2t_R@1``, ``cxc_i2t_R@5``, ``cxc_i2t_R@10`` and the same
    for ``t2i``, in percent. Needs the package ``eccv_caption``, which has the annotation, and a
    source that gives COCO's image and text ids.

    Args:
        texts_per_image: as of :class:`Coco5K`.
    """

    annotation = "cxc"

    @override
    def judged_scores(self, hits: Tensor, relevant: Tensor) -> dict[str, Tensor]:
        return {f"R@{k}": hit_rate(hits, k) for k in (1, 5, 10)}
