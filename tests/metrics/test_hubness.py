"""Hubness by hand; hub corrections against loops over pairs; what they change."""

import math

import pytest
import torch

from itm_lightning import list_registered
from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics import Gallery
from itm_lightning.metrics.hubness import correct_hubs, hub_report, hubness, n_occurrences, skewness
from itm_lightning.metrics.protocols import Coco1K, Retrieval
from itm_lightning.part import from_config, to_config
from itm_lightning.ranking import Neighbours, TopK, blocks, rank, ranks_from_scores
from itm_lightning.similarity import (
    CSLS,
    NNN,
    Cosine,
    CrossAttention,
    Ensemble,
    InvertedSoftmax,
)
from itm_lightning.types import Features, MemberFeatures
from tests.made_up import made_up_features

OWNER = torch.tensor([i for i in range(11) for _ in range(i % 4)])  # images without texts, too
CORRECTIONS = {
    "NNN": NNN(k=5),
    "NNN, more than the bank has": NNN(k=1000, alpha=0.5),
    "CSLS": CSLS(k=3),
    "InvertedSoftmax": InvertedSoftmax(),
}
HEADS = {
    "pooled": Cosine(),
    "tokens": CrossAttention(),
    "ensemble of one model's features": Ensemble([CrossAttention(), Cosine()], [1, 3]),
    "ensemble of models": Ensemble([Cosine(), CrossAttention()], [1, 3]),
}


def made_up_gallery(seed, n_images, owner, members):
    images, texts = (
        made_up_features(n_images, 6, seed=seed),
        made_up_features(len(owner), 5, seed=-seed),
    )
    if members:
        images = MemberFeatures((images, made_up_features(n_images, 3, 6, seed=seed + 1)))
        texts = MemberFeatures((texts, made_up_features(len(owner), 7, 6, seed=seed + 2)))
    ids = 5 * torch.arange(n_images)
    return Gallery(images, texts, ids, ids[owner], torch.arange(len(owner)))


def of_loop(correction, score, others):
    """One pair's score, corrected, from the scores of its image and its text with the bank."""
    biases = []
    for bank in others:
        best = sorted(bank, reverse=True)
        if isinstance(correction, CSLS):
            nearest = best[: correction.width]
            biases.append(sum(nearest) / len(nearest))
        elif isinstance(correction, NNN):
            nearest = best[: correction.width]
            biases.append(correction.alpha * sum(nearest) / len(nearest))
        else:
            biases.append(math.log(sum(math.exp(20 * s) for s in bank)))
    factor = {CSLS: 2, NNN: 1, InvertedSoftmax: 20}[type(correction)]
    return (factor * score - sum(biases)) / factor


def test_corrections_are_registered_and_their_examples_here_are_all():
    assert list_registered("hub_correction") == ["CSLS", "InvertedSoftmax", "NNN"]
    for correction in CORRECTIONS.values():
        again = from_config(to_config(correction))
        assert vars(again) == vars(correction)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("correction", CORRECTIONS.values(), ids=CORRECTIONS)
def test_scores_are_those_of_a_loop_over_pairs(monkeypatch, head, correction):
    monkeypatch.setattr(blocks, "_CPU_BYTES", 400 * 16)  # of few images and texts
    members = head is HEADS["ensemble of models"]
    gallery = made_up_gallery(1, 11, OWNER, members)
    bank = made_up_gallery(7, 13, torch.arange(13).repeat_interleave(2), members)
    corrected, biased = correct_hubs(head, gallery, bank, correction)

    plain = head(gallery.images, gallery.texts).tolist()
    with_texts = head(gallery.images, bank.texts).tolist()
    with_images = head(bank.images, gallery.texts).mT.tolist()
    expected = torch.tensor(
        [
            [
                of_loop(correction, score, (with_texts[i], with_images[t]))
                for t, score in enumerate(row)
            ]
            for i, row in enumerate(plain)
        ]
    )
    found = corrected(biased.images.whole(), biased.texts.whole())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    ids = biased.image_ids, biased.text_image_ids
    ranks = rank(corrected, biased.images, biased.texts, *ids)
    assert ranks.t2i.equal(ranks_from_scores(found, *ids).t2i)
    assert ranks.i2t.equal(ranks_from_scores(found, *ids).i2t)


def test_hubness_by_hand():
    nearest = torch.tensor([[0, 1], [0, 2], [0, 1]])
    assert n_occurrences(nearest, 5).tolist() == [3, 2, 1, 0, 0]
    # around the mean 1.2: cubes 5.832, 0.512, −0.008 and twice −1.728; squares 3.24, 0.64, 0.04 …
    cubes, squares = (5.832 + 0.512 - 0.008 - 2 * 1.728) / 5, (3.24 + 0.64 + 0.04 + 2 * 1.44) / 5
    assert skewness(torch.tensor([3, 2, 1, 0, 0])) == pytest.approx(cubes / squares**1.5)
    assert skewness(torch.tensor([2, 2, 2])) == 0
    three_images_ask_five_texts = TopK(
        i2t=Neighbours(torch.zeros(3, 2), nearest),
        t2i=Neighbours(torch.zeros(5, 1), torch.tensor([[0], [0], [2], [2], [0]])),
    )
    assert hubness(three_images_ask_five_texts) == pytest.approx(
        {
            "i2t_skewness": cubes / squares**1.5,
            "i2t_anti_hubs": 2 / 5,
            "t2i_skewness": skewness(torch.tensor([3, 0, 2])),
            "t2i_anti_hubs": 1 / 3,
        }
    )


def with_hubs(seed, n=150):
    """Pairs in 40 dimensions; every fifth image and text is near to everything."""
    random = torch.Generator().manual_seed(seed)
    meaning = torch.randn(n, 40, generator=random)
    hub = 4 * (torch.arange(n) % 5 == 0).float()[:, None] * torch.ones(40)
    common = 1.5 * torch.ones(40)
    sides = [
        Features.from_pooled(meaning + common + hub + torch.randn(n, 40, generator=random))
        for _ in range(2)
    ]
    ids = torch.arange(n)
    return Gallery(*sides, ids, ids, ids)


@pytest.mark.parametrize("name", ["NNN", "CSLS", "InvertedSoftmax"])
def test_a_report_says_what_a_correction_changes(name):
    gallery, bank = with_hubs(1), with_hubs(2)
    correction = CORRECTIONS[name]
    truth = GroundTruth({i: [i] for i in range(150)})

    def scores(head, scored):
        return Retrieval().evaluate(head, scored, truth).scores

    report = hub_report(Cosine(), gallery, bank, correction, Retrieval(), truth)
    assert report["correction"]["class_path"].rpartition(".")[2] == name
    assert report["bank"] == {"images": 150, "texts": 150}
    assert report["scores"] == scores(*correct_hubs(Cosine(), gallery, bank, correction))
    assert report["scores"]["rsum"] > scores(Cosine(), gallery)["rsum"] + 10
    before, after = report["hubness"]["before"], report["hubness"]["after"]
    for way in ("i2t", "t2i"):
        assert after[f"{way}_skewness"] < before[f"{way}_skewness"]
        assert after[f"{way}_anti_hubs"] < before[f"{way}_anti_hubs"]


def test_a_corrected_gallery_goes_through_a_protocol_of_folds():
    gallery, bank = with_hubs(1), with_hubs(2)
    truth = GroundTruth({i: [i] for i in range(150)})
    protocol = Coco1K(folds=3, fold_size=50)
    plain = protocol.evaluate(Cosine(), gallery, truth)
    corrected = protocol.evaluate(*correct_hubs(Cosine(), gallery, bank, NNN(k=5)), truth)
    assert corrected.queries == plain.queries
    assert corrected.scores["rsum"] > plain.scores["rsum"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NNN(k=0), "NNN: k is 0"),
        (lambda: NNN(alpha=0), "alpha"),
        (lambda: CSLS(k=-1), "CSLS: k is -1"),
        (lambda: InvertedSoftmax(temperature=0), "InvertedSoftmax: temperature is 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
