"""Class mAP against counting query by query."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.precision import average_precision
from itm_lightning.metrics.protocols import ClassMAP, Retrieval
from itm_lightning.ranking import blocks
from itm_lightning.types import Features
from tests.metrics.protocols.obvious import Dot, made_up_gallery, score_table

# several texts an image, several classes an image, an image without texts (40) or classes (44)
IMAGES = (31, 5, 70, 8, 12, 44, 2, 90, 63, 40, 17, 50, 21)
TEXTS_OF_IMAGE = {
    image: [10 * image + k for k in range(0 if image == 40 else 1 + i % 4)]
    for i, image in enumerate(IMAGES)
}
LABELS = {image: [] if image == 44 else sorted({i % 3, i % 4}) for i, image in enumerate(IMAGES)}
TRUTH = GroundTruth(TEXTS_OF_IMAGE, labels=LABELS)


def obvious(scores, queries, answers, cut_off):
    """AP of each query; ``queries`` and ``answers`` are sets of classes."""
    found = []
    for row, classes in zip(scores, queries, strict=True):
        wanted = np.array([bool(classes & others) for others in answers])
        hits = wanted[np.lexsort((wanted, -row))][:cut_off]  # of equal scores the wrong ones first
        precisions = [hits[: k + 1].mean() for k in range(len(hits)) if hits[k]]
        found.append(np.mean(precisions) if precisions else 0.0)
    return np.array(found)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("elements", [7, 60, None], ids="{} elements".format)
def test_equals_counting_query_by_query(ties, elements, monkeypatch):
    monkeypatch.setattr("itm_lightning.metrics.protocols.class_map._CUT_OFF", 5)
    if elements:
        monkeypatch.setattr(blocks, "_CPU_BYTES", 16 * elements)
    gallery = made_up_gallery(TEXTS_OF_IMAGE, dim=4)
    if ties:  # scores are -2, 0 or 2
        sides = (side.pooled[:, :2].sign() for side in (gallery.images, gallery.texts))
        images, texts = map(Features.from_pooled, sides)
        gallery = replace(gallery, images=images, texts=texts)
    found = ClassMAP().evaluate(Dot(), gallery, TRUTH)
    plain = Retrieval().evaluate(Dot(), gallery, TRUTH).scores
    assert {key: found.scores[key] for key in plain} == plain
    assert found.queries == {"i2t": 12, "t2i": sum(map(len, TEXTS_OF_IMAGE.values()))}

    scores, owner = score_table(gallery, TEXTS_OF_IMAGE)
    of_images = [set(classes) for classes in LABELS.values()]
    of_texts = [of_images[row] for row in owner]
    for key, cut_off in (("AP", None), ("AP@5", 5)):
        ask = [row for row, texts in enumerate(TEXTS_OF_IMAGE.values()) if texts]
        i2t = obvious(scores[ask], [of_images[row] for row in ask], of_texts, cut_off)
        t2i = obvious(scores.T, of_texts, of_images, cut_off)
        assert found.scores[f"i2t_m{key}"] == pytest.approx(i2t.mean())
        assert found.scores[f"t2i_m{key}"] == pytest.approx(t2i.mean())
        ids = [image for image in TEXTS_OF_IMAGE if TEXTS_OF_IMAGE[image]]
        by_id = dict(
            zip(found.per_query["i2t_ids"].tolist(), found.per_query[f"i2t_{key}"], strict=True)
        )
        np.testing.assert_allclose([by_id[image] for image in ids], i2t)
    both = found.scores["i2t_mAP"], found.scores["t2i_mAP"]
    assert found.scores["mAP"] == pytest.approx(sum(both) / 2)
    assert ClassMAP().summarise(found.per_query) == found.scores


def test_average_precision_by_hand():
    hits = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool()
    assert average_precision(hits).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 4, 0])
    assert average_precision(hits, 2).tolist() == [1, 0, 0]


def test_without_labels_it_is_refused_and_sources_with_classes_are_named():
    with pytest.raises(InputError, match=r"ClassMAP scores by class labels.* Paired.* Scenes"):
        ClassMAP().check(GroundTruth(TEXTS_OF_IMAGE))
