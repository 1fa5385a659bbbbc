"""What holds for every registered head."""

import pickle

import pytest
import torch

from itm_lightning import similarity
from itm_lightning.errors import InputError
from itm_lightning.part import from_config, to_config
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.similarity.heads import DIM, HEADS, SPARSE, WITHOUT_GRADIENT, heads_that_are

LEAF_HEADS = similarity.PooledSimilarity, similarity.TokenSimilarity


@pytest.fixture(params=heads_that_are(similarity.Similarity))
def head(request):
    return request.param


@pytest.fixture
def images():
    return made_up_features(5, length=7, seed=1)


@pytest.fixture
def texts():
    return made_up_features(6, length=4, seed=2)


def test_scores_every_image_against_every_text(head, images, texts):
    scores = head(images, texts)
    assert scores.shape == (5, 6)
    for i in range(5):
        for j in range(6):
            alone = head(images[i : i + 1].trim(), texts[j : j + 1].trim())
            assert scores[i, j].item() == pytest.approx(alone.item(), abs=1e-5)


def test_selects_all_that_it_reads(head, images, texts):
    selected = head(head.select(images), head.select(texts))
    torch.testing.assert_close(selected, head(images, texts), rtol=0, atol=0)


def test_features_it_cannot_read_are_refused(head, images, texts):
    read = head.select(images)
    without = (
        Features(images.tokens, images.mask, None)
        if read.tokens is None
        else Features.from_pooled(images.pooled)
    )
    reader = next(part for part in head.modules() if isinstance(part, LEAF_HEADS))
    with pytest.raises(InputError, match=type(reader).__name__):
        head(without, texts)


def test_different_widths_are_refused(head, images):
    with pytest.raises(InputError, match="width"):
        head(images, made_up_features(2, length=3, dim=DIM + 1))


@pytest.mark.parametrize("head", heads_that_are(similarity.Similarity, WITHOUT_GRADIENT))
def test_gradients_are_finite_even_at_zero(head, images, texts):
    images.tokens[0], images.pooled[0] = 0, 0
    leaves = [side.requires_grad_() for f in (images, texts) for side in (f.tokens, f.pooled)]
    head(images, texts).sum().backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert len(gradients) == 2
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_survives_config_and_pickle(head, images, texts):
    again = from_config(to_config(head))
    again.build(DIM, DIM)
    again.load_extra_state(head.extra_state())
    again.load_state_dict(head.state_dict())
    again.train(head.training)
    for copy in (again, pickle.loads(pickle.dumps(head))):
        torch.testing.assert_close(copy(images, texts), head(images, texts), rtol=0, atol=0)


@pytest.mark.parametrize("head", heads_that_are(similarity.Aligning))
def test_alignment_is_zero_at_padding_whatever_it_holds(head, images, texts):
    weights = head.alignment(images, texts)
    assert weights.shape == (5, 6, 7, 4)
    padding = ~(images.mask[:, None, :, None] & texts.mask[None, :, None, :])
    assert (weights[padding.expand_as(weights)] == 0).all()
    for side in (images, texts):
        side.tokens[~side.mask] = torch.nan
    torch.testing.assert_close(head.alignment(images, texts), weights, rtol=0, atol=0)


@pytest.mark.parametrize("head", heads_that_are(similarity.Aligning, SPARSE))
def test_alignment_weighs_every_region_and_word(head, images, texts):
    weights = head.alignment(images, texts)
    real = images.mask[:, None, :, None] & texts.mask[None, :, None, :]
    assert (weights[real.expand_as(weights)] > 0).all()


@pytest.mark.parametrize("name", sorted(SPARSE))
def test_sparse_alignment_gives_every_query_token_one_partner(name, images, texts):
    weights = HEADS[name].alignment(images, texts)
    words = weights.sum(dim=2).equal(texts.mask.float().expand(5, -1, -1))
    regions = weights.sum(dim=3).equal(images.mask.float()[:, None].expand(-1, 6, -1))
    both = weights.sum(dim=(2, 3)).equal((texts.mask.sum(1) + images.mask.sum(1)[:, None]) / 2)
    assert [words, regions, both].count(True) == 1


@pytest.mark.parametrize("head", heads_that_are(similarity.Embedding))
def test_the_score_follows_from_an_inner_product(head, images, texts):
    products = head.embed_images(images) @ head.embed_texts(texts).T
    scores = head(images, texts)
    atol = 1e-5 * max(1.0, float(scores.detach().abs().max()))
    torch.testing.assert_close(
        head.score_of_inner_product(products).to(scores.dtype), scores, atol=atol, rtol=1e-5
    )
    found = products.topk(3).indices
    torch.testing.assert_close(scores.gather(1, found), scores.topk(3).values, atol=atol, rtol=1e-5)
    increasing = torch.linspace(float(products.min()), float(products.max()), 9)
    steps = head.score_of_inner_product(increasing.to(products.dtype)).diff()
    assert (steps >= 0).all()


def test_pairs_are_scored_as_on_the_diagonal(head):
    images, texts = made_up_features(37, 7, seed=1), made_up_features(37, 4, seed=2)
    pairs = head.score_pairs(images, texts)
    torch.testing.assert_close(pairs, head(images, texts).diagonal(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", heads_that_are(similarity.Similarity, WITHOUT_GRADIENT))
def test_gradients_of_pairs_are_those_of_the_diagonal(head):
    read = [head.select(made_up_features(18, length, seed=length)) for length in (7, 4)]
    leaves = [
        x.requires_grad_() for side in read for x in (side.tokens, side.pooled) if x is not None
    ]
    weights = torch.linspace(-1, 1, 18)
    of_pairs, of_diagonal = (
        torch.autograd.grad((weights * scores).sum(), leaves)
        for scores in (head.score_pairs(*read), head(*read).diagonal())
    )
    torch.testing.assert_close(of_pairs, of_diagonal, atol=1e-5, rtol=1e-4)
