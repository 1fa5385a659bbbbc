import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ranking import rank, rank_and_top_k, top_k
from itm_lightning.similarity import Cosine, CrossAttention
from itm_lightning.types import Features
from tests.made_up import made_up_features


@pytest.mark.parametrize("head", [Cosine(), CrossAttention("t2i")])
@pytest.mark.parametrize("block_elements", [1, 300, 2**24])
def test_equals_sorting_the_whole_matrix(head, block_elements):
    images, texts = made_up_features(7, 6, seed=1), made_up_features(11, 4, seed=2)
    scores = head(images, texts)
    found = top_k(head, images, texts, 3, block_elements=block_elements)
    for neighbours, matrix in ((found.i2t, scores), (found.t2i, scores.T)):
        expected = matrix.topk(3)
        torch.testing.assert_close(neighbours.scores, expected.values)
        assert neighbours.indices.equal(expected.indices)


@pytest.mark.parametrize("block_elements", [1, 300, 2**24])
def test_comes_with_the_ranks_for_the_price_of_scoring_once(block_elements):
    images, texts = made_up_features(7, 6, seed=1), made_up_features(11, 4, seed=2)
    image_ids = torch.tensor([4, 9, 2, 7, 0, 5, 3])
    text_image_ids = torch.tensor([3, 3, 2, 9, 0, 9, 4, 2, 2, 7, 3])  # photo 5 is a distractor
    pairs = 0

    class Counting(CrossAttention):
        def score(self, images, texts):
            nonlocal pairs
            scores = super().score(images, texts)
            pairs += scores.numel()
            return scores

    head = Counting()
    ranks, found = rank_and_top_k(
        head, images, texts, image_ids, text_image_ids, 3, block_elements=block_elements
    )
    assert pairs == 7 * 11
    expected = rank(head, images, texts, image_ids, text_image_ids)
    assert ranks.i2t.equal(expected.i2t)
    assert ranks.t2i.equal(expected.t2i)
    alone = top_k(head, images, texts, 3)
    assert found.i2t.indices.equal(alone.i2t.indices)
    assert found.t2i.indices.equal(alone.t2i.indices)
    torch.testing.assert_close(found.t2i.scores, alone.t2i.scores)


def test_gives_all_there_are_when_k_is_more():
    found = top_k(Cosine(), made_up_features(2, 3), made_up_features(4, 3), 10)
    assert found.i2t.indices.sort().values.tolist() == [[0, 1, 2, 3]] * 2
    assert found.t2i.indices.sort().values.tolist() == [[0, 1]] * 4


def test_nan_names_the_head():
    broken = Features.from_pooled(torch.full((2, 8), torch.nan))
    with pytest.raises(InputError, match="Cosine"):
        top_k(Cosine(), broken, made_up_features(4, 3), 1)
