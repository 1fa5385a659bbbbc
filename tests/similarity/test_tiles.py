import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from itm_lightning.similarity import Mlp, OrderEmbedding, SmoothChamfer, unit_tokens
from itm_lightning.types import Features, Vectors
from tests.made_up import made_up_features


@pytest.mark.parametrize(
    ("n", "m", "tiles_of"),
    [
        (9, 11, {(3, 4), (3, 3)}),
        (9, 5, {(3, 5)}),  # not four texts and one
        (9, 2, {(5, 2), (4, 2)}),
        (2, 11, {(1, 11)}),
        (1, 40, {(1, 20)}),
        (3, 5, {(3, 5)}),
    ],
)
def test_tiles_are_even_and_about_square(monkeypatch, n, m, tiles_of):
    monkeypatch.setattr(unit_tokens, "_TILE_CPU_ELEMENTS", 100)
    shapes = []

    def score(images, texts):
        shapes.append((len(images), len(texts)))
        return images.vectors @ texts.vectors.T

    images, texts = Vectors(torch.randn(n, 6)), Vectors(torch.randn(m, 6))
    scores = unit_tokens.in_tiles(score, images, texts, width=6)  # 16 pairs at a time
    torch.testing.assert_close(scores, images.vectors @ texts.vectors.T)
    assert set(shapes) == tiles_of
    assert sum(i * j for i, j in shapes) == n * m


@given(n=st.integers(1, 200), m=st.integers(1, 200), pairs=st.integers(1, 1000))
def test_tiles_hold_hardly_more_than_they_may(n, m, pairs):
    images, texts = unit_tokens._tile_shape(n, m, pairs)
    assert images * texts <= 1.5 * pairs + 1


def test_a_pair_larger_than_a_tile_is_scored_all_the_same(monkeypatch):
    monkeypatch.setattr(unit_tokens, "_TILE_CPU_ELEMENTS", 1)
    images, texts = Vectors(torch.randn(3, 6)), Vectors(torch.randn(2, 6))
    product = unit_tokens.in_tiles(lambda i, t: i.vectors @ t.vectors.T, images, texts, width=6)
    torch.testing.assert_close(product, images.vectors @ texts.vectors.T)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0)])
def test_nothing_has_no_scores(n, m):
    images, texts = Vectors(torch.randn(n, 6)), Vectors(torch.randn(m, 6))
    product = unit_tokens.in_tiles(lambda i, t: i.vectors @ t.vectors.T, images, texts, width=6)
    assert product.shape == (n, m)


def test_training_keeps_nothing_but_the_cosines(monkeypatch):
    monkeypatch.setattr(unit_tokens, "_TILE_CPU_ELEMENTS", 4 * 6 * 5)
    images, texts = made_up_features(9, 6, seed=1), made_up_features(8, 5, seed=2)
    leaves = [side.tokens.double().requires_grad_() for side in (images, texts)]
    sides = [Features(x, side.mask, None) for x, side in zip(leaves, (images, texts), strict=True)]
    head, held = SmoothChamfer(), []
    prepared = head.prepare_images(sides[0]), head.prepare_texts(sides[1])
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: held.append(tensor) or tensor, lambda tensor: tensor
    ):
        scores = head.score(*prepared)
    cosines = sum(tensor.numel() for tensor in held if tensor.dim() == 4)
    assert 0 < cosines <= 9 * 6 * 8 * 5
    gradients = torch.autograd.grad(scores.square().sum(), leaves)
    monkeypatch.setattr(unit_tokens, "_TILE_CPU_ELEMENTS", 2**20)
    expected = torch.autograd.grad(head(*sides).square().sum(), leaves)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("elements", [1, 12, 35, 100, 1000])  # less than a pair, …, all
def test_slices_cover_every_pair_once_and_hold_no_more_than_they_may(monkeypatch, elements):
    monkeypatch.setattr(unit_tokens, "_SLICE_CPU_ELEMENTS", elements)
    images, texts, seen = torch.randn(11, 6), Vectors(torch.randn(5, 6)), torch.zeros(11, 5)
    for rows, columns in unit_tokens.slices(images, texts, width=6):
        seen[rows, columns] += 1
        assert images[rows].numel() * len(texts[columns]) <= max(elements, 6) * 1.5 + 6
    assert seen.eq(1).all()


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0)])
@pytest.mark.parametrize("head", [OrderEmbedding(), Mlp(6)])
def test_heads_in_slices_give_nothing_for_nothing(head, n, m):
    images, texts = (Features.from_pooled(torch.randn(size, 6)) for size in (n, m))
    assert head(images, texts).shape == (n, m)


@pytest.fixture
def medium_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("medium_precision")
@pytest.mark.parametrize("multiplies", [True, False])
def test_medium_precision_takes_bfloat16_where_the_processor_multiplies_it(monkeypatch, multiplies):
    name = "processor_multiplies_bfloat16"
    monkeypatch.setattr(unit_tokens, name, lambda: multiplies)
    head = SmoothChamfer()
    for dtype in (torch.float32, torch.float64):
        sides = (made_up_features(3, 6, seed=1), made_up_features(4, 5, seed=2))
        images, texts = (
            head.prepare(Features(side.tokens.to(dtype), side.mask, None)) for side in sides
        )
        exact = torch.einsum("nrd,mld->nrml", images.tokens, texts.tokens)
        cosines = unit_tokens.cosines(images, texts)
        assert cosines.dtype == dtype
        torch.testing.assert_close(cosines, exact, rtol=0, atol=1e-2)
        rounds = multiplies and dtype == torch.float32
        assert ((cosines - exact).abs().max() > 1e-5) == rounds
