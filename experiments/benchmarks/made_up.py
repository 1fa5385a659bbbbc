"""Made-up photos and captions of the usual sizes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from itm_lightning.types import Features

SHORTEST, LONGEST = 8, 17  # words: most captions of Flickr30k and COCO


def made_up(
    image_features: int, text_features: int, regions: int, dim: int
) -> tuple[Features, Features]:
    """Unit tokens; captions of 8 to 17 words."""
    lengths = torch.randint(SHORTEST, LONGEST + 1, (text_features, 1))
    mask = torch.arange(LONGEST) < lengths
    images = F.normalize(torch.randn(image_features, regions, dim), dim=-1)
    texts = F.normalize(torch.randn(text_features, LONGEST, dim), dim=-1)
    return Features.from_tokens(images), Features.from_tokens(texts * mask.unsqueeze(-1), mask)
