"""ECCV Caption and CxC by made-up judgements, against counting query by query."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.protocols import Coco5K, CxC, EccvCaption
from itm_lightning.metrics.protocols.judged import Judgements, judgements
from itm_lightning.types import Features
from tests.metrics.protocols.obvious import Dot, made_up_gallery, obvious_ranking, score_table

IMAGES = (31, 5, 70, 8, 12, 44, 2, 90, 63, 17, 50, 21)
TEXTS_OF_IMAGE = {image: [10 * image + k for k in range(6)] for image in IMAGES}
TRUTH = GroundTruth(TEXTS_OF_IMAGE)
KEPT = {image: texts[:5] for image, texts in TEXTS_OF_IMAGE.items()}
# some queries only, with answers beyond their own; 999 was dropped from the gallery
JUDGED = Judgements(
    i2t={31: frozenset({310, 311, 52, 704}), 5: frozenset({50}), 63: frozenset({170, 630, 999})},
    t2i={310: frozenset({31, 5}), 501: frozenset({50, 2, 8, 12, 21}), 24: frozenset({2})},
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(Coco5K, "images", len(IMAGES))


@pytest.fixture
def _judged(monkeypatch):
    monkeypatch.setattr("itm_lightning.metrics.protocols.judged.judgements", lambda name: JUDGED)


def obvious(scores, query_ids, answer_ids, judged):
    """The three ECCV Caption scores and the recalls of one direction, in percent."""
    precisions, averages, recalls = [], [], {1: [], 5: [], 10: []}
    for query, correct in judged.items():
        ranking = obvious_ranking(scores[query_ids.index(query)], np.array(answer_ids), correct)
        r = len(correct)
        found = [answer in correct for answer in ranking]
        precisions.append(sum(found[:r]) / r)
        averages.append(sum(sum(found[:i]) / i for i in range(1, r + 1) if found[i - 1]) / r)
        for k, hits in recalls.items():
            hits.append(any(found[:k]))
    return {
        "mAP@R": 100 * np.mean(averages),
        "R-Precision": 100 * np.mean(precisions),
    } | {f"R@{k}": 100 * np.mean(hits) for k, hits in recalls.items()}


@pytest.mark.usefixtures("_judged")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("protocol", "count"), [(EccvCaption(), 3), (CxC(), 3)])
def test_equals_counting_query_by_query(protocol, count, ties, monkeypatch):
    gallery = made_up_gallery(TEXTS_OF_IMAGE, dim=4)
    if ties:  # scores are -2, 0 or 2
        images, texts = (side.pooled[:, :2].sign() for side in (gallery.images, gallery.texts))
        sides = Features.from_pooled(images), Features.from_pooled(texts)
        gallery = replace(gallery, images=sides[0], texts=sides[1])
    found = protocol.evaluate(Dot(), gallery, TRUTH)
    plain = Coco5K().evaluate(Dot(), gallery, TRUTH)
    added = {key: found.scores[key] for key in found.scores if key not in plain.scores}
    assert found.scores == plain.scores | added
    monkeypatch.undo()  # of the judgements: the arrays are enough
    assert protocol.summarise(found.per_query) == found.scores

    scores, _ = score_table(gallery, KEPT)
    texts = [text for kept in KEPT.values() for text in kept]
    expected = {
        "i2t": obvious(scores, list(KEPT), texts, JUDGED.i2t),
        "t2i": obvious(scores.T, texts, list(KEPT), JUDGED.t2i),
    }
    assert len(added) == 2 * count
    for key, value in added.items():
        _, way, name = key.split("_")
        assert value == pytest.approx(expected[way][name]), key


@pytest.mark.usefixtures("_judged")
def test_queries_are_counted_by_annotation():
    queries = EccvCaption().evaluate(Dot(), made_up_gallery(TEXTS_OF_IMAGE), TRUTH).queries
    assert queries == {"i2t": 12, "t2i": 60, "eccv_i2t": 3, "eccv_t2i": 3}


@pytest.mark.usefixtures("_judged")
def test_ids_that_are_not_cocos_are_refused():
    images = dict(enumerate(TEXTS_OF_IMAGE.values()))
    with pytest.raises(InputError, match=r"2 of the 3 image ids .* 31 among .* gives COCO's ids"):
        EccvCaption().check(GroundTruth(images))
    texts = {image: range(1000 * image, 1000 * image + 5) for image in TEXTS_OF_IMAGE}
    with pytest.raises(InputError, match=r"CxC .* 3 of the 3 text ids .* 24 among"):
        CxC().check(GroundTruth(texts))


@pytest.mark.parametrize("protocol", [EccvCaption(), CxC()])
def test_without_the_package_the_command_to_get_it_is_named(protocol, monkeypatch):
    judgements.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install eccv_caption"):
        protocol.check(TRUTH)


def test_the_packages_annotation_is_read_whole():
    pytest.importorskip("eccv_caption", reason="needs pip install eccv_caption")
    eccv, cxc = judgements("eccv"), judgements("cxc")
    assert (len(eccv.i2t), len(eccv.t2i), len(cxc.i2t), len(cxc.t2i)) == (1261, 1332, 5000, 24972)
    assert sum(map(len, eccv.i2t.values())) == 22550  # the paper's counts
    assert sum(map(len, eccv.t2i.values())) == 11279
    assert (eccv.most, cxc.most) == (48, 19)
