import pytest
import torch

from itm_lightning import ranking
from itm_lightning.errors import InputError
from itm_lightning.similarity import Bilinear, Cosine, CrossAttention, DotProduct, Ensemble
from itm_lightning.types import Features
from tests.made_up import made_up_features

IMAGES, TEXTS = made_up_features(4, 5, seed=1), made_up_features(6, 3, seed=2)


def test_is_the_mean_of_its_heads():
    heads = [CrossAttention("t2i"), CrossAttention("i2t")]
    mean = (heads[0](IMAGES, TEXTS) + heads[1](IMAGES, TEXTS)) / 2
    torch.testing.assert_close(Ensemble(heads)(IMAGES, TEXTS), mean)


def test_weights_are_relative():
    mean = 0.75 * Cosine()(IMAGES, TEXTS) + 0.25 * DotProduct()(IMAGES, TEXTS)
    for weights in ([3, 1], [0.75, 0.25]):
        head = Ensemble([Cosine(), DotProduct()], weights)
        torch.testing.assert_close(head(IMAGES, TEXTS), mean)


def test_keeps_what_any_of_its_heads_reads():
    both = Ensemble([Cosine(), CrossAttention()]).select(IMAGES)
    assert both.tokens is not None
    assert both.pooled is not None
    assert Ensemble([Cosine(), Bilinear(8)]).select(IMAGES).tokens is None
    assert Ensemble([CrossAttention()]).select(IMAGES).pooled is None


def test_a_block_is_as_large_as_its_most_demanding_head_needs():
    head = Ensemble([Cosine(), CrossAttention()])
    assert head.pair_elements(36, 12, 8) == CrossAttention().pair_elements(36, 12, 8) > 1


def test_its_heads_learn():
    head = Ensemble([Bilinear(8), Bilinear(8)])
    head(IMAGES, TEXTS).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())
    assert len(list(head.parameters())) == 2


def test_is_ranked_like_any_head():
    head = Ensemble([Cosine(), CrossAttention()])
    ids, owners = torch.arange(4), torch.tensor([0, 0, 1, 2, 3, 3])
    streamed = ranking.rank(head, IMAGES, TEXTS, ids, owners, block_elements=8, progress=False)
    whole = ranking.ranks_from_scores(head(IMAGES, TEXTS), ids, owners)
    assert streamed.i2t.equal(whole.i2t)
    assert streamed.t2i.equal(whole.t2i)


@pytest.mark.parametrize(
    ("n", "weights"), [(0, None), (2, [1.0]), (2, [1.0, 0.0]), (2, [1e308, 1e308])]
)
def test_weights_that_do_not_fit_are_refused(n, weights):
    with pytest.raises(InputError, match=f"for {n} models"):
        Ensemble([Cosine() for _ in range(n)], weights)


def test_a_head_that_lacks_what_it_reads_says_so():
    with pytest.raises(InputError, match="CrossAttention reads tokens"):
        Ensemble([Cosine(), CrossAttention()])(Features.from_pooled(IMAGES.pooled), TEXTS)
