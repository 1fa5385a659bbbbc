"""What an objective may read, that it is computed only when it is read, and what is refused."""

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.objectives import LocalComparison
from itm_lightning.similarity import Cosine, CrossAttention, Gaussian
from itm_lightning.similarity.spaces import Gaussians
from tests.made_up import encoded_batch, made_up_features

IMAGES, TEXTS = made_up_features(4, 5, seed=1), made_up_features(4, 3, seed=2)


class Unread(Gaussian):
    """A head that may be asked for nothing."""

    def prepare_images(self, images):
        raise AssertionError("scores were made, though nobody read them")

    def to_head_space(self, images, texts):
        raise AssertionError("the head's space was computed, though nobody read it")


def test_nothing_is_computed_that_is_not_read():
    comparison = LocalComparison(Unread(8), encoded_batch(IMAGES, TEXTS))
    assert comparison.pairs == 4
    assert comparison.images is IMAGES
    assert comparison.encoded.encoded_texts is TEXTS
    assert comparison.batch.texts == ["0", "1", "2", "3"]
    ids, mask = comparison.token_ids
    assert ids.tolist() == [[2], [3], [4], [5]]
    assert mask.all()
    with pytest.raises(AssertionError, match="head's space"):
        _ = comparison.head_images
    with pytest.raises(AssertionError, match="scores were made"):
        _ = comparison.image_queries


def test_the_heads_own_space_where_it_has_one():
    head = Gaussian(8)
    comparison = LocalComparison(head, encoded_batch(IMAGES, TEXTS))
    assert isinstance(comparison.head_images, Gaussians)
    expected = head.to_head_space(IMAGES, TEXTS)[1].log_variance
    torch.testing.assert_close(comparison.head_texts.log_variance, expected)
    plain = LocalComparison(Cosine(), encoded_batch(IMAGES, TEXTS))
    assert plain.head_images is IMAGES


def test_queries_are_the_heads_scores():
    head = CrossAttention()
    comparison = LocalComparison(head, encoded_batch(IMAGES, TEXTS))
    torch.testing.assert_close(comparison.image_queries.scores, head(IMAGES, TEXTS))
    torch.testing.assert_close(comparison.text_queries.scores, head(IMAGES, TEXTS).T)


def test_of_scores_alone_features_are_refused():
    comparison = LocalComparison.of_scores(torch.eye(3))
    assert comparison.pairs == 3
    for name in ("batch", "images", "texts", "labels", "token_ids", "head_images"):
        with pytest.raises(InputError, match="scores alone"):
            getattr(comparison, name)


def test_labels_are_refused_where_the_source_has_none():
    with pytest.raises(InputError, match="class labels, and the source has none"):
        _ = LocalComparison(Cosine(), encoded_batch(IMAGES, TEXTS)).labels
