"""The objective on a validation split, against a loop over its batches."""

import pytest
import torch

from itm_lightning.distributed import SingleProcess
from itm_lightning.objectives import InfoNCE
from itm_lightning.similarity import Cosine
from itm_lightning.training.validation_loss import ValidationLoss
from itm_lightning.types import Batch, EncodedBatch, Features


def encoded(counts):
    """A batch of images with so many texts each."""
    owners = [image for image, count in enumerate(counts) for _ in range(count)]
    images, texts = (Features.from_pooled(torch.randn(n, 4)) for n in (len(counts), len(owners)))
    ids = torch.arange(len(counts)), torch.tensor(owners), torch.arange(len(owners))
    words = [f"text {row}" for row in range(len(owners))]
    batch = Batch(images, words, *ids, torch.zeros(len(counts), 0, dtype=torch.bool))
    return EncodedBatch(batch, images, texts, images, texts, lambda texts: (), lambda texts: [])


def test_is_the_mean_over_pairs_of_each_image_and_its_first_text():
    torch.manual_seed(0)
    objective, loss = InfoNCE(), ValidationLoss()
    total = pairs = 0
    for counts in ([2, 0, 1, 3], [1, 1], [4]):  # the second image is a distractor
        batch = encoded(counts)
        loss.update(objective, Cosine(), batch)
        rows = [row for row, count in enumerate(counts) if count]
        first = [sum(counts[:row]) for row in rows]
        if len(rows) > 1:  # a single pair has nothing to be told from
            scores = Cosine()(batch.images[torch.tensor(rows)], batch.texts[torch.tensor(first)])
            total += len(rows) * objective(scores).item()
            pairs += len(rows)
    assert loss.compute(SingleProcess()) == pytest.approx(total / pairs, rel=1e-5)
    assert loss.compute(SingleProcess()) is None  # it begins anew
