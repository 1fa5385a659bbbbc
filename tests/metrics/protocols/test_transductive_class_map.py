"""The transductive ranking against loops over all pairs of items and an inverse."""

import numpy as np
import pytest
import torch

from itm_lightning.distributed import SingleProcess
from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.protocols import ClassMAP, TransductiveClassMAP
from itm_lightning.metrics.protocols.base import restrict
from itm_lightning.metrics.protocols.transductive_class_map import class_seeds, nearest_graph
from itm_lightning.ranking import blocks
from itm_lightning.similarity import CCA, CFA, Cosine
from tests.metrics.protocols.obvious import made_up_gallery
from tests.metrics.protocols.test_class_map import LABELS, TEXTS_OF_IMAGE, TRUTH, obvious

# image ids of both splits are the same numbers; several texts an image, several classes
BANK_TEXTS = {image: [200 + 3 * image + k for k in range(1 + image % 2)] for image in range(2, 13)}
BANK_TRUTH = GroundTruth(BANK_TEXTS, labels={image: {image % 3, image % 4} for image in BANK_TEXTS})
GALLERY = made_up_gallery(TEXTS_OF_IMAGE, dim=6)
BANK = made_up_gallery(BANK_TEXTS, dim=6, seed=1)


def head_of(cls, found=3):
    """A head whose last component was not found."""
    head = cls(found + 1)
    head.build(6, 6)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter[..., :found] = torch.rand(parameter[..., :found].shape, generator=random)
    return head


def vectors_of(head, gallery):
    """Its projections of both sides."""
    weights = (head.image_mean, head.image_weight), (head.text_mean, head.text_weight)
    for (mean, weight), side in zip(weights, (gallery.images, gallery.texts), strict=True):
        yield ((side.pooled.double() - mean) @ weight).detach().numpy()


def obvious_classes(head, neighbours, alpha):
    """F of the gallery's images and texts."""
    known, asked = (list(vectors_of(head, gallery)) for gallery in (BANK, GALLERY))
    rows, seeds = [], []
    for bank, gallery, ids in zip(known, asked, (BANK.image_ids, BANK.text_image_ids), strict=True):
        spread = bank.std(axis=0)
        standardised = (np.concatenate([bank, gallery]) - bank.mean(axis=0))[:, :-1]
        rows.append(standardised / spread[:-1])
        labels = [BANK_TRUTH.labels[image] for image in ids.tolist()]
        for item in labels:
            n = [sum(c in other for other in labels) for c in range(4)]
            y = [1 / n[c] if c in item else -1 / (len(labels) - n[c]) for c in range(4)]
            seeds.append(y)
        seeds += [[0.0] * 4] * len(gallery)
    rows = np.concatenate(rows)
    weights = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        distances = np.sqrt(((rows - row) ** 2).sum(axis=1))
        for j in np.argsort(distances, kind="stable")[:neighbours]:
            weights[i, j] = 1 / (1 + np.exp(distances[j]))
    weights = (weights + weights.T) / 2
    scale = np.diag(weights.sum(axis=1) ** -0.5)
    inverse = np.linalg.inv(np.eye(len(rows)) - alpha * scale @ weights @ scale)
    classes = (1 - alpha) * inverse @ np.array(seeds)
    n, images = len(BANK.images), len(GALLERY.images)
    return classes[n : n + images], classes[-len(GALLERY.texts) :]


@pytest.mark.parametrize(("neighbours", "alpha"), [(5, 0.1), (11, 0.7), (1000, 0.3)])
def test_equals_loops_and_an_inverse(neighbours, alpha, monkeypatch):
    monkeypatch.setattr(blocks, "_CPU_BYTES", 16 * 3 * 100)  # a few rows of distances at a time
    head, protocol = head_of(CFA), TransductiveClassMAP(neighbours, alpha)
    images, texts = obvious_classes(head, neighbours, alpha)
    found = protocol.spread(head, GALLERY, BANK, BANK_TRUTH)
    np.testing.assert_allclose(found.images.local.pooled, images, atol=1e-10)
    np.testing.assert_allclose(found.texts.local.pooled, texts, atol=1e-10)

    evaluation = protocol.evaluate(head, GALLERY, TRUTH, (BANK, BANK_TRUTH))
    scores = (images @ texts.T).astype(np.float32)
    of_images = [set(LABELS[image]) for image in GALLERY.image_ids.tolist()]
    of_texts = [set(LABELS[image]) for image in GALLERY.text_image_ids.tolist()]
    ask = np.isin(GALLERY.image_ids, GALLERY.text_image_ids).nonzero()[0]
    i2t = obvious(scores[ask], [of_images[row] for row in ask], of_texts, 99)
    t2i = obvious(scores.T, of_texts, of_images, 99)
    np.testing.assert_allclose(evaluation.per_query["i2t_transductive_AP"], i2t)
    np.testing.assert_allclose(evaluation.per_query["t2i_transductive_AP"], t2i)
    mean = (i2t.mean() + t2i.mean()) / 2
    assert evaluation.scores["transductive_mAP"] == pytest.approx(mean)
    assert protocol.summarise(evaluation.per_query) == evaluation.scores


def test_inductive_scores_stand_beside_and_alone_without_the_training_split():
    head, protocol = head_of(CCA), TransductiveClassMAP(5)
    plain = ClassMAP().evaluate(head, GALLERY, TRUTH).scores
    assert protocol.evaluate(head, GALLERY, TRUTH).scores == plain
    scores = protocol.evaluate(head, GALLERY, TRUTH, (BANK, BANK_TRUTH)).scores
    added = {key: scores.pop(key) for key in list(scores) if "transductive" in key}
    assert scores == plain
    assert added.keys() == {
        f"{way}transductive_mAP{cut}"
        for way, cut in [("", ""), ("i2t_", ""), ("t2i_", ""), ("i2t_", "@50"), ("t2i_", "@50")]
    }


def test_the_other_queries_take_part():
    head, protocol = head_of(CFA), TransductiveClassMAP(4, 0.5)
    fewer = {image: texts for image, texts in TEXTS_OF_IMAGE.items() if image != 31}
    whole, part = (
        protocol.spread(head, gallery, BANK, BANK_TRUTH).images.local.pooled
        for gallery in (GALLERY, restrict(GALLERY, fewer))
    )
    assert not whole[GALLERY.image_ids != 31].allclose(part)


def test_seeds_by_hand():
    classes = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 1]]).double()
    expected = [[1 / 2, -1 / 4, 1 / 3], [1 / 2, -1 / 4, -1], *[[-1 / 2, -1 / 4, 1 / 3]] * 2]
    torch.testing.assert_close(class_seeds(classes), torch.tensor(expected).double())


def test_of_equally_near_items_the_first_are_joined():
    rows = torch.tensor([[0.0], [1.0], [1.0], [-1.0]]).double()
    graph = nearest_graph(rows, 2, 3, SingleProcess()).to_dense()
    assert graph.ne(0).tolist() == [
        [True, True, False, True],  # the last has it among its own
        [True, True, True, False],
        [False, True, True, False],
        [True, False, False, True],
    ]


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match=r"linear projections, and Cosine has none.* CCA, CFA"):
        TransductiveClassMAP().check_head(Cosine())
    with pytest.raises(InputError, match="neighbours is 0"):
        TransductiveClassMAP(neighbours=0)
    with pytest.raises(InputError, match=r"alpha is 1\.0"):
        TransductiveClassMAP(alpha=1.0)
