"""Made-up features and golden files for tests of the maths."""

from pathlib import Path

import numpy as np
import torch

from itm_lightning.encoders.base import Token
from itm_lightning.types import Batch, EncodedBatch, Features

GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def made_up_features(n, length, dim=8, seed=0, ragged=True):
    """Tokens of differing number (the first row has all) with their pooled vectors."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(n, length, dim, generator=generator)
    lengths = torch.randint(1, length + 1, (n, 1), generator=generator)
    lengths[0] = length
    mask = torch.arange(length)[None] < lengths if ragged else None
    return Features.from_tokens(tokens, mask)


def encoded_batch(images, texts, image_ids=None, text_image_ids=None, labels=None, rows=None):
    """Features of pairs as a Matcher hands them to a Comparison; the raw texts are their rows."""
    rows = torch.arange(len(images)) if rows is None else rows
    image_ids = rows if image_ids is None else image_ids
    text_image_ids = image_ids if text_image_ids is None else text_image_ids
    labels = torch.zeros(len(images), 0, dtype=torch.bool) if labels is None else labels
    raw = [str(int(row)) for row in rows]
    batch = Batch(images, raw, image_ids, text_image_ids, rows, labels)

    def token_ids(texts):
        ids = torch.tensor([[int(text) + 2] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def words(texts):
        return [[Token(text, special=False)] for text in texts]

    return EncodedBatch(batch, images, texts, images, texts, token_ids, words)
