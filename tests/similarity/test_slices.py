import pytest
import torch

from itm_lightning.similarity import tiles
from itm_lightning.types import Vectors


def test_a_slice_holds_no_more_than_it_may_in_either_pass(monkeypatch):
    monkeypatch.setattr(tiles, "_SLICE_CPU_ELEMENTS", 100)
    largest = []

    def score(images, texts):
        pairs = images.vectors[:, None] - texts.vectors
        largest.append(pairs.numel())
        return pairs.square().sum(-1)

    images, texts = Vectors(torch.randn(11, 6, requires_grad=True)), Vectors(torch.randn(5, 6))
    held = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: held.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        scores = tiles.in_slices(score, images, texts, width=6)
    assert sum(held) <= 100  # of all 330 numbers, what waits for the backward pass
    scores.sum().backward()
    assert len(largest) == 2 * 4  # 3 photos and all captions a slice; forwards, and backwards again
    assert max(largest) == 90
    expected = 2 * (5 * images.vectors - texts.vectors.sum(0))
    torch.testing.assert_close(images.vectors.grad, expected.detach())


@pytest.mark.parametrize("elements", [1, 12, 35, 1000])  # less than a pair, two pairs, …, all
def test_however_small_slices_are_they_are_all_scored(monkeypatch, elements):
    monkeypatch.setattr(tiles, "_SLICE_CPU_ELEMENTS", elements)
    images, texts = Vectors(torch.randn(3, 6)), Vectors(torch.randn(5, 6))
    product = tiles.in_slices(lambda i, t: i.vectors @ t.vectors.T, images, texts, width=6)
    torch.testing.assert_close(product, images.vectors @ texts.vectors.T)
