"""EccvCaption: COCO 5K by the judgements of people and machines."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.metrics.precision import average_precision_at_r, hit_rate, r_precision
from itm_lightning.metrics.protocols.judged import JudgedCoco
from itm_lightning.registry import register


@register("protocol")
class EccvCaption(JudgedCoco):
    """The scores of :class:`Coco5K`, and ECCV Caption's mAP@R, R-Precision and R@1.

    Chun et al. (2022), ECCV Caption: correcting false negatives by collecting machine-and-human-
    verified image-text associations for MS-COCO, section 4. The queries are 1,261 images and
    1,332 texts of COCO's Karpathy test split, the gallery is all of it. Adds ``eccv_i2t_mAP@R``,
    ``eccv_i2t_R-Precision``, ``eccv_i2t_R@1`` and the same for ``t2i``, in percent. Needs the
    package ``eccv_caption``, and a source that gives COCO's image and text ids.

    Args:
        texts_per_image: as of :class:`Coco5K`.
    """

    annotation = "eccv"

    @override
    def judged_scores(self, hits: Tensor, relevant: Tensor) -> dict[str, Tensor]:
        return {
            "mAP@R": average_precision_at_r(hits, relevant),
            "R-Precision": r_precision(hits, relevant),
            "R@1": hit_rate(hits, 1),
        }
