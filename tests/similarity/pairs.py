"""Images and texts pair by pair, without padding, for the slow loops of tests."""

import itertools

import pytest
import torch

from tests.made_up import made_up_features


def unit_rows(features, row):
    """The real tokens of a row, of length 1."""
    tokens = features.tokens[row, features.mask[row]]
    return tokens / tokens.norm(dim=1, keepdim=True)


def assert_scores_equal(head, score, seed=3):
    """Compares with ``score(regions, words)`` of each pair's unit tokens."""
    images, texts = made_up_features(4, 6, seed=seed), made_up_features(5, 4, seed=seed + 1)
    scores = head(images, texts)
    for i, j in itertools.product(range(4), range(5)):
        expected = score(unit_rows(images, i), unit_rows(texts, j))
        assert scores[i, j].item() == pytest.approx(float(expected), abs=1e-5)


def nothing_real(features, row):
    """The features with a row of padding alone."""
    mask = features.mask.clone()
    mask[row] = False
    return type(features)(features.tokens, mask, features.pooled)


def at_degrees(*degrees):
    """Tokens ``(1, L, 2)`` in these directions of a plane, of differing length."""
    angles = torch.tensor([degrees]).deg2rad()
    lengths = 1 + torch.arange(len(degrees)).unsqueeze(-1)
    return lengths * torch.stack([angles.cos(), angles.sin()], dim=-1)
