import numpy as np
import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ranking import rank_and_top_k
from itm_lightning.similarity import Hamming
from itm_lightning.similarity.hamming import hamming_distances, pack
from itm_lightning.types import Features, Rows


def differing_bits(left, right):
    """Of vectors, one at a time."""
    return [
        [sum((v >= 0) != (t >= 0) for v, t in zip(image, text, strict=True)) for text in right]
        for image in left.tolist()
    ]


@pytest.mark.parametrize("bits", [1, 40, 64, 65, 128, 200])
def test_packed_codes_differ_in_as_many_bits_as_counted_one_by_one(bits):
    left, right = torch.randn(5, bits), torch.randn(6, bits)
    left[0], right[0] = 1, -1  # every bit differs, the sign of a word too
    expected = differing_bits(left, right.tolist())
    assert hamming_distances(pack(left >= 0), pack(right >= 0)).tolist() == expected
    assert expected[0][0] == bits
    images, texts = Features.from_pooled(left), Features.from_pooled(right)
    assert Hamming().eval()(images, texts).tolist() == [[-d for d in row] for row in expected]


def test_packed_codes_are_words_that_can_be_cut_and_joined():
    codes = pack(torch.randn(7, 100) >= 0)
    assert codes.words.shape == (7, 2)
    assert codes.words.dtype == torch.int64
    again = Rows.cat([codes[:3], codes[torch.arange(3, 7)]])
    assert again.words.equal(codes.words)
    assert again.bits == len(codes) + 93


def test_codes_of_different_lengths_are_refused():
    nine, ten = (pack(torch.ones(2, bits).bool()) for bits in (9, 10))
    with pytest.raises(InputError, match="one width, but they have 9 and 10 bits"):
        hamming_distances(nine, ten)


def test_slices_change_nothing():
    left, right = torch.randn(9, 70), torch.randn(40_000, 70)
    signs = [torch.where(side < 0, -1.0, 1.0) for side in (left, right)]
    expected = (70 - signs[0] @ signs[1].T) / 2
    assert hamming_distances(pack(left >= 0), pack(right >= 0)).equal(expected.long())


def test_ranks_and_nearest_in_blocks_are_those_of_brute_force():
    images, texts = torch.randn(30, 12), torch.randn(60, 12)  # so short that most scores are ties
    ids, text_ids = torch.arange(30), torch.arange(60) % 30
    sides = [Features.from_pooled(side) for side in (images, texts)]
    ranks, top = rank_and_top_k(Hamming().eval(), *sides, ids, text_ids, 7, block_elements=64)
    distances = np.array(differing_bits(images, texts.tolist()))
    for image, found in enumerate(ranks.i2t.tolist()):
        own = text_ids.numpy() == image
        assert found == 1 + (distances[image][~own] <= distances[image][own].min()).sum()
    for text, found in enumerate(ranks.t2i.tolist()):
        assert found == (distances[:, text] <= distances[text % 30, text]).sum()
    # which of two equal distances comes first is left open
    for found, matrix in ((top.i2t, distances), (top.t2i, distances.T)):
        rows = found.indices.numpy()
        assert all(len(set(row)) == 7 for row in rows.tolist())
        nearest = np.sort(matrix, axis=1)[:, :7]
        assert (-found.scores).tolist() == nearest.tolist()
        assert np.take_along_axis(matrix, rows, axis=1).tolist() == nearest.tolist()


def test_zero_is_a_bit_like_any_other():
    zero, one = (Features.from_pooled(torch.tensor([[x, -1.0]])) for x in (0.0, 5.0))
    assert Hamming().eval()(zero, one).item() == 0


def test_training_relaxes_what_evaluation_counts():
    images, texts = (Features.from_pooled(torch.randn(n, 16)) for n in (3, 4))
    head = Hamming()
    sure = [Features.from_pooled(side.pooled * 1e4) for side in (images, texts)]
    torch.testing.assert_close(head(*sure), head.eval()(images, texts))
    half = Features.from_pooled(torch.full((1, 1), 0.5).atanh())
    assert head.train()(half, half).item() == (0.25 - 1) / 2


def test_training_draws_codes_that_differ_together():
    vectors = torch.tensor([[0.3, -0.2]], requires_grad=True)
    texts = Features.from_pooled(torch.tensor([[2.0, 2.0]]))
    Hamming()(Features.from_pooled(vectors), texts).sum().backward()
    assert (vectors.grad > 0).all()
