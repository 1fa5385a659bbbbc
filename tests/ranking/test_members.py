"""Several models that score one gallery: the mean of their score matrices, block by block."""

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ranking import rank, ranks_from_scores, top_k
from itm_lightning.similarity import CrossAttention, DotProduct, Ensemble
from itm_lightning.types import MemberFeatures
from tests.made_up import made_up_features

N_IMAGES = 40
OWNER = torch.tensor([i for i in range(N_IMAGES) for _ in range(1 + i % 3)])
IDS = torch.arange(N_IMAGES) * 7 + 1
HEADS = [DotProduct(), CrossAttention()]
# the second model sees other regions and other words, of another width
IMAGES = [made_up_features(N_IMAGES, 5, 8, seed=1), made_up_features(N_IMAGES, 3, 6, seed=2)]
TEXTS = [made_up_features(len(OWNER), 9, 8, seed=3), made_up_features(len(OWNER), 4, 6, seed=4)]
GALLERY = MemberFeatures(tuple(IMAGES)), MemberFeatures(tuple(TEXTS))
WEIGHTS = [1.0, 3.0]


def mean_scores():
    each = [head(i, t) for head, i, t in zip(HEADS, IMAGES, TEXTS, strict=True)]
    return (each[0] + 3 * each[1]) / 4


@pytest.mark.parametrize("block_elements", [50, 1000, None])
def test_ranks_are_those_of_the_mean(block_elements):
    head = Ensemble(HEADS, WEIGHTS)
    found = rank(head, *GALLERY, IDS, IDS[OWNER], block_elements=block_elements)
    expected = ranks_from_scores(mean_scores(), IDS, IDS[OWNER])
    assert found.i2t.equal(expected.i2t)
    assert found.t2i.equal(expected.t2i)


def test_nearest_are_those_of_the_mean():
    found = top_k(Ensemble(HEADS, WEIGHTS), *GALLERY, 5, block_elements=200)
    expected = mean_scores().topk(5, dim=1)
    assert found.i2t.indices.equal(expected.indices)
    torch.testing.assert_close(found.i2t.scores, expected.values)


@pytest.mark.parametrize("head", [DotProduct(), Ensemble([DotProduct()])])
def test_every_model_needs_a_head(head):
    with pytest.raises(InputError, match="2 models need an Ensemble of as many heads"):
        rank(head, *GALLERY, IDS, IDS[OWNER])
