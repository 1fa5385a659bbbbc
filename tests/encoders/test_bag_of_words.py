import math

import pytest
import torch

from itm_lightning.encoders import BagOfWords
from itm_lightning.errors import InputError

#: dog 3 times in two texts, a 2 in two, red 1, cat 1: the columns in this order.
TRAIN = ["A dog, dog", "a red dog", "cat"]


def learnt(**settings):
    encoder = BagOfWords(**settings)
    encoder.learn_vocabulary(TRAIN)
    return encoder


def test_counts_of_the_words_the_most_frequent_first():
    encoder = learnt(weighting="counts", dim=5)
    assert encoder.vocabulary.words == ["dog", "a", "cat", "red"]
    pooled = encoder(["the Red dog's dog, a dog", "", "zebra"]).pooled
    assert pooled.tolist() == [[2, 1, 0, 1, 0], [0] * 5, [0] * 5]


def test_tf_idf_as_scikit_learn_has_it():
    common, rare = math.log(4 / 3) + 1, math.log(4 / 2) + 1  # of 3 texts, 2 and 1 have the word
    row = [2 * common, common, 0, rare]
    expected = torch.tensor(row) / math.hypot(*row)
    pooled = learnt(dim=4)(["a dog dog red", "zebra"]).pooled
    torch.testing.assert_close(pooled, torch.stack([expected, torch.zeros(4)]))


def test_the_most_frequent_words_fill_the_width():
    encoder = learnt(weighting="counts", dim=2)
    assert encoder(["a red cat dog dog"]).pooled.tolist() == [[2, 1]]


def test_rare_words_are_left_out():
    encoder = learnt(weighting="counts", min_count=2, dim=4)
    assert encoder(["a red cat dog dog"]).pooled.tolist() == [[2, 1, 0, 0]]


def test_a_vocabulary_that_is_there_stays():
    encoder = learnt(dim=4)
    weights = encoder.column_weights.clone()
    encoder.learn_vocabulary(["zebra"])
    assert encoder.vocabulary.words == ["dog", "a", "cat", "red"]
    assert torch.equal(encoder.column_weights, weights)


def test_there_is_nothing_to_train():
    encoder = learnt(dim=4)
    assert list(encoder.parameters()) == []
    assert encoder.frozen


def test_vectors_have_the_precision_of_the_model():
    assert learnt(dim=4).double()(["a dog"]).pooled.dtype == torch.float64


@pytest.mark.parametrize("settings", [{"weighting": "bm25"}, {"dim": 0}])
def test_refuses(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"BagOfWords: .*{name}"):
        BagOfWords(**settings)


def test_without_a_vocabulary_says_what_to_do():
    with pytest.raises(InputError, match="learn_vocabulary"):
        BagOfWords()(["a dog"])
