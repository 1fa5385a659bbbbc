"""Made-up features and golden files for tests of the maths."""

from pathlib import Path

import numpy as np
import torch

from itm_lightning.types import Features

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
