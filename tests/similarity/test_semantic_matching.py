"""SemanticMatching: its classifiers are at the optimum, and what it makes of their posteriors."""

import numpy as np
import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import CCA, SemanticMatching
from itm_lightning.similarity.semantic_matching import logistic_regression
from tests.similarity.test_cca import correlated, features

IMAGES, TEXTS = correlated(60, 6, 4)
CLASSES = torch.from_numpy(IMAGES @ np.ones((6, 3)) + TEXTS[:, :3]).argmax(dim=1)
LABELS = torch.nn.functional.one_hot(CLASSES, 3).bool()


def solved(head, labels=LABELS):
    head.build(IMAGES.shape[1], TEXTS.shape[1])
    head.learn_classes(["a", "b", "c"])
    head.solve(head.observe(features(IMAGES), features(TEXTS), labels))
    return head


def at_the_optimum(rows, targets, weight, bias, strength):
    """The gradient of ``C Σ loss + ½ ‖W‖²`` is 0: ``C Σ x (p − t)ᵀ + W``, and ``C Σ (p − t)``."""
    residual = (rows @ weight + bias).softmax(dim=1) - targets
    torch.testing.assert_close(strength * rows.T @ residual, -weight, atol=1e-4, rtol=1e-4)
    assert (strength * residual.sum(dim=0)).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["plain", "tiny"])
@pytest.mark.parametrize("strength", [0.01, 30.0])
def test_the_regression_is_at_its_optimum(strength, scale):
    rows, targets = torch.from_numpy(IMAGES) * scale, LABELS.double()
    targets[0] = torch.tensor([0.5, 0.5, 0.0])
    at_the_optimum(rows, targets, *logistic_regression(rows, targets, strength), strength)


def test_a_regression_by_hand():
    # one number, two pairs of either class: p = σ(2 w x), and w (1/C) = 2 · 2 (1 − σ(2w)) · ½ …
    rows = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    weight, bias = logistic_regression(rows, torch.eye(2, dtype=torch.float64), 1.0)
    w = weight[0, 0]
    torch.testing.assert_close(weight[0], torch.stack([w, -w]))
    torch.testing.assert_close(w, 2 * (1 - (2 * w).sigmoid()))  # where the gradient is 0
    assert bias.abs().max() < 1e-6


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("components", [None, 2])
def test_scores_are_cosines_of_posteriors(components, centred):
    head = solved(SemanticMatching(C=2.0, components=components, centred=centred))
    sides = [torch.from_numpy(rows - rows.mean(axis=0)) for rows in (IMAGES, TEXTS)]
    if components:
        cca = CCA(components)
        cca.build(6, 4)
        cca.solve(cca.observe(features(IMAGES), features(TEXTS)))
        weights = cca.image_weight.detach(), cca.text_weight.detach()
        sides = [rows @ weight for rows, weight in zip(sides, weights, strict=True)]
    posteriors = []
    for rows in sides:
        weight, bias = logistic_regression(rows, LABELS.double(), 2.0)
        p = (rows @ weight + bias).softmax(dim=1)
        posteriors.append(p - 1 / 3 if centred else p)
    left, right = (torch.nn.functional.normalize(p) for p in posteriors)
    scores = head(features(IMAGES), features(TEXTS)).detach()
    torch.testing.assert_close(scores, left @ right.T, atol=1e-5, rtol=0)


def test_pairs_of_several_classes_count_by_shares_and_those_without_do_not():
    labels = LABELS.clone()
    labels[0], labels[1] = torch.tensor([True, True, False]), False
    head = solved(SemanticMatching(), labels)
    rows = torch.from_numpy(IMAGES)
    targets = labels.double()
    targets[0] /= 2
    keep = torch.arange(len(rows)) != 1
    weight, bias = head.image_weight.detach(), head.image_bias.detach()
    at_the_optimum(
        rows[keep] - rows.mean(dim=0), targets[keep], weight, bias + rows.mean(dim=0) @ weight, 30.0
    )


def test_classes_come_with_the_checkpoint():
    head, again = solved(SemanticMatching()), SemanticMatching()
    again.build(6, 4)
    again.load_extra_state(head.extra_state())
    again.load_state_dict(head.state_dict())
    sides = features(IMAGES), features(TEXTS)
    torch.testing.assert_close(again(*sides), head(*sides))


@pytest.mark.parametrize("wrong", [{"C": 0.0}, {"ridge": -0.1}, {"components": 0}], ids=str)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=f"SemanticMatching: {next(iter(wrong))} is"):
        SemanticMatching(**wrong)


def test_what_is_not_solved_scores_nothing():
    head = SemanticMatching()
    head.build(6, 4)
    with pytest.raises(InputError, match="SemanticMatching is not solved yet"):
        head(features(IMAGES), features(TEXTS))
