import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.metrics import BidirectionalRecall, Gallery, pairs_accuracy
from itm_lightning.similarity import Cosine, CrossAttention
from itm_lightning.types import Features
from tests.made_up import made_up_features


def gallery(images, texts, image_ids, text_image_ids):
    ids = torch.tensor(image_ids), torch.tensor(text_image_ids)
    return Gallery(images, texts, *ids, text_ids=None)


def slow_accuracy(scores, image_ids, text_image_ids, minimal_pairs):
    right = []
    for j, image in enumerate(text_image_ids):
        if image in minimal_pairs:
            own, minimal_pair = image_ids.index(image), image_ids.index(minimal_pairs[image])
            right.append(bool(scores[own, j] > scores[minimal_pair, j]))
    return 100 * sum(right) / len(right)


@pytest.mark.parametrize("head", [Cosine(), CrossAttention()])
def test_equals_the_obvious_loop(head):
    n = 150  # more than a block of pairs
    image_ids = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    text_image_ids = [i for i in range(n) for _ in range(i % 4)]
    minimal_pairs = {i: i ^ 1 for i in range(20, n)}
    images = made_up_features(n, 3, seed=1)
    texts = made_up_features(len(text_image_ids), 3, seed=2)
    expected = slow_accuracy(head(images, texts), image_ids, text_image_ids, minimal_pairs)
    one_way = {a: b for a, b in minimal_pairs.items() if a < b}
    made = gallery(images, texts, image_ids, text_image_ids)
    assert pairs_accuracy(head, made, minimal_pairs) == pytest.approx(expected)
    assert pairs_accuracy(head, made, one_way) == pytest.approx(expected)
    assert 30 < expected < 70


def test_ties_count_against_the_head():
    same = Features.from_pooled(torch.ones(2, 4))
    assert pairs_accuracy(Cosine(), gallery(same, same, [1, 2], [1, 2]), {1: 2, 2: 1}) == 0


def test_a_bag_of_words_gets_half_at_best():
    words = Features.from_pooled(
        torch.randn(6, 4)[[0, 1, 2] * 2]
    )  # the two texts of a pair are one bag
    images = Features.from_pooled(torch.randn(6, 4))
    ids = [0, 1, 2, 3, 4, 5]
    accuracy = pairs_accuracy(Cosine(), gallery(images, words, ids, ids), {0: 3, 1: 4, 2: 5})
    assert accuracy == 50


def test_pairs_that_are_not_whole_are_left_out():
    eye = Features.from_pooled(torch.eye(3))
    made = gallery(eye, eye, [1, 2, 3], [1, 2, 3])
    assert pairs_accuracy(Cosine(), made, {1: 2, 2: 1, 3: 9}) == 100
    assert math.isnan(pairs_accuracy(Cosine(), made, {3: 9}))


def test_an_image_in_two_pairs_is_refused():
    eye = Features.from_pooled(torch.eye(3))
    with pytest.raises(InputError, match="image id 2 is in two minimal pairs"):
        pairs_accuracy(Cosine(), gallery(eye, eye, [1, 2, 3], [1, 2, 3]), {1: 2, 3: 2})


def test_takes_the_gallery_of_the_metric():
    metric = BidirectionalRecall(Cosine())
    eye = Features.from_pooled(torch.eye(2))
    metric.update(eye, eye, torch.tensor([1, 2]), torch.tensor([1, 2]))
    assert pairs_accuracy(Cosine(), metric.gallery(), {1: 2}) == 100
