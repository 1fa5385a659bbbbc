"""An encoder quick enough to be run again and again."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from itm_lightning.data import Box, ImageSource, Record
from itm_lightning.encoders import ImageEncoder


class Strips(ImageEncoder):
    """Convolves a photo of 8×8 pixels into 4×4 tokens of 3 numbers."""

    def __init__(self, scale: float = 1.0, trainable: bool = True):
        super().__init__(trainable)
        self.scale = scale
        self._normalise_by([0.5] * 3, [0.5] * 3)
        torch.manual_seed(0)
        self._adopt(nn.Sequential(nn.Conv2d(3, 3, 2, stride=2), nn.Dropout(0.5)), 3)

    def transform(self, train):
        return to_tensor

    def _tokens(self, pixels):
        return self.scale * self.network(pixels).flatten(2).transpose(1, 2)


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Noise(ImageSource):
    """Photos of noise; every second one has a minimal pair, label and box, and captions vary."""

    def __init__(self, images: int = 11):
        self.images = images

    @property
    def class_names(self):
        return ("silence", "noise")

    def records(self, split):
        count = {"train": self.images, "val": 3, "test": 0}[split]
        return [self._record(split, number) for number in range(count)]

    def image(self, record):
        pixels = np.random.default_rng(record.image_id).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def _record(self, split, number):
        each = 1 + number % 3
        return Record(
            image_id=100 - number,
            texts=tuple(f"photo {number},\ncaption {k} “ü”" for k in range(each)),
            text_ids=tuple(7 * number + k for k in range(each)),
            location=f"{split}/{number}.jpg",
            labels=("noise",) * (number % 2),
            boxes=(Box("noise", 0, 0.5, 3, 4),) * (number % 2),
            minimal_pair=99 - number if number % 2 else None,
        )


@pytest.fixture
def encoder():
    return Strips()


@pytest.fixture
def source():
    return Noise()
