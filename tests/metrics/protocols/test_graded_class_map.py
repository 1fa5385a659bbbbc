"""Gains and precisions within a radius, against counting query by query."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from itm_lightning.metrics.precision import normalised_gain, precision_within
from itm_lightning.metrics.protocols import ClassMAP, GradedClassMAP
from itm_lightning.similarity import Hamming
from itm_lightning.types import Features
from tests.metrics.protocols.obvious import Dot, made_up_gallery, score_table
from tests.metrics.protocols.test_class_map import LABELS, TEXTS_OF_IMAGE, TRUTH


def gain(row, classes, answers, cut_off):
    shared = np.array([len(classes & others) for others in answers])
    ranking = shared[np.lexsort((shared, -row))]  # of equal scores those that gain less first

    def summed(gains):
        return sum((2**r - 1) / np.log2(place + 2) for place, r in enumerate(gains[:cut_off]))

    best = summed(sorted(shared, reverse=True))
    return summed(ranking) / best if best else 0.0


def precision(row, classes, answers):
    near = [
        bool(classes & others) for score, others in zip(row, answers, strict=True) if score >= -2
    ]
    return sum(near) / len(near) if near else 0.0


@pytest.mark.parametrize("bits", [2, 6])
def test_equals_counting_query_by_query(bits, monkeypatch):
    monkeypatch.setattr("itm_lightning.metrics.protocols.graded_class_map._CUT_OFF", 5)
    gallery = made_up_gallery(TEXTS_OF_IMAGE, dim=bits)
    head = Hamming().eval()
    found = GradedClassMAP().evaluate(head, gallery, TRUTH).scores
    plain = ClassMAP().evaluate(head, gallery, TRUTH).scores
    assert {key: found[key] for key in plain} == plain

    signs = [
        Features.from_pooled(torch.where(side.pooled < 0, -1.0, 1.0))
        for side in (gallery.images, gallery.texts)
    ]
    scores, owner = score_table(replace(gallery, images=signs[0], texts=signs[1]), TEXTS_OF_IMAGE)
    scores = (scores - bits) / 2  # of products of signs, minus the bits that differ
    of_images = [set(classes) for classes in LABELS.values()]
    of_texts = [of_images[row] for row in owner]
    asks = [row for row, texts in enumerate(TEXTS_OF_IMAGE.values()) if texts]
    ways = {
        "i2t": [(scores[row], of_images[row], of_texts) for row in asks],
        "t2i": [(scores[:, row], of_texts[row], of_images) for row in range(len(of_texts))],
    }
    for way, queries in ways.items():
        gains = [gain(*query, cut_off=5) for query in queries]
        assert found[f"{way}_NDCG@5"] == pytest.approx(np.mean(gains))
        assert found[f"{way}_P@H2"] == pytest.approx(np.mean([precision(*q) for q in queries]))


def test_a_head_that_counts_no_bits_has_no_precision_within_them():
    gallery = made_up_gallery(TEXTS_OF_IMAGE, dim=4)
    found = GradedClassMAP().evaluate(Dot(), gallery, TRUTH).scores
    assert not [key for key in found if "P@H" in key]
    assert 0 < found["i2t_NDCG@100"] <= 1


def test_gain_by_hand():
    """Three answers that share 0, 2 and 1 classes; the best order is 2, 1, 0."""
    best = 3 + 1 / np.log2(3)
    found = normalised_gain(torch.tensor([[0, 2, 1], [0, 0, 0]]), at=2)
    assert found.tolist() == pytest.approx([3 / np.log2(3) / best, 0])


def test_precision_within_by_hand():
    distances = torch.tensor([[0.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    relevant = torch.tensor([[True, False, True], [True, True, True]])
    assert precision_within(distances, relevant, 2).tolist() == [0.5, 0]
