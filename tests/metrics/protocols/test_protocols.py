"""Every protocol, at sizes at which the obvious computation is quick."""

import inspect

import numpy as np
import pytest
import torch

from itm_lightning import get, list_registered
from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics import BidirectionalRecall, Gallery
from itm_lightning.metrics.protocols import Coco1K, Coco5K, Flickr30k1K, Retrieval
from itm_lightning.part import from_config, to_config
from itm_lightning.similarity import Cosine
from itm_lightning.types import Features
from tests.made_up import golden
from tests.metrics.protocols.obvious import (
    Dot,
    made_up_gallery,
    obvious_folds,
    obvious_recall,
    score_table,
)

# ids and numbers of texts in no order at all; image 70 has more than five, image 8 fewer
TEXTS_OF_IMAGE = {
    image: [10 * image + (k * 7) % 10 for k in range(count)]
    for image, count in zip(
        (31, 5, 70, 8, 12, 44, 2, 90, 63, 17, 50, 21), [5, 5, 7, 3] * 3, strict=True
    )
}
TRUTH = GroundTruth(TEXTS_OF_IMAGE)
FIRST_FIVE = {image: texts[:5] for image, texts in TEXTS_OF_IMAGE.items()}
GALLERY = made_up_gallery(TEXTS_OF_IMAGE, dim=8)


@pytest.fixture(params=[Flickr30k1K, Coco5K])
def small(request, monkeypatch):
    """A protocol of one gallery, made small."""
    monkeypatch.setattr(request.param, "images", len(TEXTS_OF_IMAGE))
    return request.param


@pytest.mark.parametrize("name", list_registered("protocol"))
def test_every_protocol_comes_back_from_its_recipe(name):
    cls = get("protocol", name)
    some = "texts_per_image" in inspect.signature(cls).parameters
    protocol = cls(**({"texts_per_image": 4} if some else {}))
    again = from_config(to_config(protocol))
    assert type(again).__name__ == name
    assert again.texts_per_image == protocol.texts_per_image


def test_retrieval_is_everything_against_everything():
    found = Retrieval().evaluate(Dot(), GALLERY, TRUTH)
    assert found.scores == pytest.approx(
        obvious_recall(*score_table(GALLERY, TEXTS_OF_IMAGE)), abs=1e-9
    )
    assert (found.images, found.texts, found.texts_per_image) == (12, 60, (3, 7))
    assert found.queries == {"i2t": 12, "t2i": 60}


def test_retrieval_is_what_the_metric_computes():
    metric = BidirectionalRecall(Dot())
    ids = GALLERY.image_ids, GALLERY.text_image_ids, GALLERY.text_ids
    metric.update(GALLERY.images, GALLERY.texts, *ids)
    expected = {key: float(value) for key, value in metric.compute().items()}
    assert Retrieval().evaluate(Dot(), GALLERY, TRUTH).scores == expected


def test_every_query_keeps_its_rank_under_its_id():
    found = Retrieval().evaluate(Dot(), GALLERY, TRUTH).per_query
    scores, owner = score_table(GALLERY, TEXTS_OF_IMAGE)
    i2t = dict(zip(found["i2t_ids"].tolist(), found["i2t_ranks"].tolist(), strict=True))
    t2i = dict(zip(found["t2i_ids"].tolist(), found["t2i_ranks"].tolist(), strict=True))
    for row, (image, texts) in enumerate(TEXTS_OF_IMAGE.items()):
        best = scores[row][owner == row].max()
        assert i2t.pop(image) == 1 + sum(scores[row][owner != row] >= best)
        for text, column in zip(texts, scores.T[owner == row], strict=True):
            assert t2i.pop(text) == sum(column >= column[row])
    assert not i2t
    assert not t2i


@pytest.mark.parametrize("protocol", [Retrieval(), Coco1K(3, 4), Coco1K(4, 3, 2)])
def test_a_file_of_ranks_gives_every_score(protocol, tmp_path):
    pairs = {31: 5, 70: 8, 12: 44}
    evaluation = protocol.evaluate(Dot(), GALLERY, GroundTruth(TEXTS_OF_IMAGE, pairs))
    arrays = {name: values.numpy() for name, values in evaluation.per_query.items()}
    np.savez(tmp_path / "ranks.npz", **arrays)
    with np.load(tmp_path / "ranks.npz", allow_pickle=False) as file:
        read = {name: torch.from_numpy(file[name]) for name in file.files}
    assert protocol.summarise(read) == evaluation.scores
    # by hand, without the package
    recalls = []
    for way in ("i2t", "t2i"):
        ranks, fold = arrays[f"{way}_ranks"], arrays.get(f"{way}_fold")
        folds = [ranks] if fold is None else [ranks[fold == i] for i in range(fold.max() + 1)]
        for k in (1, 5, 10):
            recalls.append(100 * np.mean([np.mean(each <= k) for each in folds]))
        assert evaluation.scores[f"{way}_meanr"] == pytest.approx(np.mean([*map(np.mean, folds)]))
    assert evaluation.scores["rsum"] == pytest.approx(sum(recalls))
    texts = {text for pair in pairs.items() for image in pair for text in TEXTS_OF_IMAGE[image]}
    assert set(arrays["pairs_text_ids"].tolist()) == texts
    accuracy = 100 * arrays["pairs_correct"].mean()
    assert evaluation.scores["pairs_accuracy"] == pytest.approx(accuracy)


def test_images_without_texts_are_distractors(small):
    texts_of_image = TEXTS_OF_IMAGE | {8: [], 90: []}
    rows = torch.isin(GALLERY.text_image_ids, torch.tensor([8, 90]), invert=True)
    ids = GALLERY.image_ids, GALLERY.text_image_ids[rows], GALLERY.text_ids[rows]
    gallery = Gallery(GALLERY.images, GALLERY.texts[rows], *ids)
    for protocol in (small(texts_per_image=None), Retrieval()):
        found = protocol.evaluate(Dot(), gallery, GroundTruth(texts_of_image))
        assert (found.images, found.texts, found.texts_per_image) == (12, 54, (0, 7))
        assert found.queries == {"i2t": 10, "t2i": 54}
        assert {8, 90}.isdisjoint(found.per_query["i2t_ids"].tolist())
    scores, owner = score_table(GALLERY, TEXTS_OF_IMAGE)
    asking = [row for row, texts in enumerate(texts_of_image.values()) if texts]
    columns = scores.T[np.isin(owner, asking)]  # against all twelve images
    ranks = [sum(c >= c[o]) for c, o in zip(columns, owner[np.isin(owner, asking)], strict=True)]
    assert found.scores["t2i_meanr"] == pytest.approx(np.mean(ranks))


def test_the_first_five_texts_are_kept(small):
    found = small().evaluate(Dot(), GALLERY, TRUTH)
    expected = obvious_recall(*score_table(GALLERY, FIRST_FIVE))
    assert found.scores == pytest.approx(expected, abs=1e-9)
    assert (found.texts, found.texts_per_image) == (54, (3, 5))
    everything = small(texts_per_image=None).evaluate(Dot(), GALLERY, TRUTH)
    assert everything.texts == 60
    assert everything.scores == Retrieval().evaluate(Dot(), GALLERY, TRUTH).scores


@pytest.mark.parametrize(("folds", "size"), [(3, 4), (4, 3), (1, 12), (12, 1)])
def test_folds_are_consecutive_in_the_datasets_order(folds, size):
    found = Coco1K(folds, size).evaluate(Dot(), GALLERY, TRUTH)
    expected = obvious_folds(*score_table(GALLERY, FIRST_FIVE), folds)
    assert found.scores == pytest.approx(expected, abs=1e-9)
    assert (found.images, found.texts, found.queries["i2t"]) == (12, 54, 12)


def test_rsum_of_folds_is_no_multiple_of_an_average():
    data = golden("recall")
    owner = torch.arange(1000) // 5
    gallery = Gallery(
        Features.from_pooled(data["images"]),
        Features.from_pooled(data["captions"]),
        torch.arange(200),
        owner,
        torch.arange(1000),
    )
    truth = GroundTruth({image: range(5 * image, 5 * image + 5) for image in range(200)})
    found = Coco1K(folds=5, fold_size=40).evaluate(Cosine(), gallery, truth).scores
    scores = (data["images"] @ data["captions"].T).numpy()
    assert found == pytest.approx(obvious_folds(scores, owner.numpy(), 5), abs=1e-9)

    i2t, t2i = ([found[f"{way}_R@{k}"] for k in (1, 5, 10)] for way in ("i2t", "t2i"))
    assert found["rsum"] == pytest.approx(sum(i2t) + sum(t2i))
    for average in (sum(i2t) / 3, sum(t2i) / 3):
        assert abs(found["rsum"] - 6 * average) > 1


def test_folds_average_ranks_too():
    # in fold one the photos are found at once, in fold two each other's captions come first
    eye, swapped = torch.eye(2), torch.eye(2).flip(0)
    images = torch.block_diag(torch.eye(2), torch.eye(2))
    gallery = Gallery(
        Features.from_pooled(images),
        Features.from_pooled(torch.block_diag(eye, swapped)),
        torch.arange(4),
        torch.arange(4),
        torch.arange(4),
    )
    found = Coco1K(2, 2).evaluate(Dot(), gallery, GroundTruth({i: [i] for i in range(4)})).scores
    assert found["i2t_R@1"] == found["t2i_R@1"] == 50
    assert found["i2t_medr"] == found["t2i_meanr"] == 1.5
    assert found["rsum"] == 50 + 100 + 100 + 50 + 100 + 100


def test_a_whole_gallery_is_not_copied():
    seen = []

    class Watching(Dot):
        def select(self, features):
            seen.append(features)
            return super().select(features)

    Retrieval().evaluate(Watching(), GALLERY, TRUTH)
    assert any(features is GALLERY.texts for features in seen)


@pytest.mark.parametrize(
    ("protocol", "expected"), [(Flickr30k1K(), 1000), (Coco5K(), 5000), (Coco1K(), 5000)]
)
def test_another_number_of_images_is_refused(protocol, expected):
    with pytest.raises(InputError, match=rf"{type(protocol).__name__} is over {expected} .* 12:"):
        protocol.check(TRUTH)
    with pytest.raises(InputError, match="--protocol Retrieval"):
        protocol.evaluate(Dot(), GALLERY, TRUTH)


def test_a_part_of_the_split_is_refused_and_plain_retrieval_takes_it(small):
    half = {image: TEXTS_OF_IMAGE[image] for image in list(TEXTS_OF_IMAGE)[:6]}
    gallery = made_up_gallery(half)
    with pytest.raises(InputError, match="over 12 images, but there are 6"):
        small().evaluate(Dot(), gallery, TRUTH)
    assert Retrieval().evaluate(Dot(), gallery, TRUTH).images == 6


def test_texts_without_ids_are_refused():
    rest = GALLERY.image_ids, GALLERY.text_image_ids, None
    with pytest.raises(InputError, match="text_ids"):
        Retrieval().evaluate(Dot(), Gallery(GALLERY.images, GALLERY.texts, *rest), TRUTH)


def test_numbers_below_one_are_refused():
    with pytest.raises(InputError, match=r"texts_per_image is 0"):
        Coco5K(texts_per_image=0).check(TRUTH)
    with pytest.raises(InputError, match="Coco1K: folds is 0"):
        Coco1K(folds=0)
