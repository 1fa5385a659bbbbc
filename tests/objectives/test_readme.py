"""The objectives that the README shows are what it says they are."""

import math
import re

import pytest
import torch

from itm_lightning.objectives import FeatureObjective, LocalComparison, QueryObjective
from itm_lightning.similarity import Cosine
from tests.conftest import REPO
from tests.made_up import encoded_batch, made_up_features


def shown(name):
    """The class of that name, as the README writes it."""
    (code,) = re.findall(
        rf"```python\n([^`]*class {name}[^`]*)```", (REPO / "README.md").read_text()
    )
    names = {}
    exec(code, names)
    return names[name]()


def test_an_objective_of_your_own():
    objective = shown("Softplus")
    assert isinstance(objective, QueryObjective)
    scores = torch.randn(4, 4, dtype=torch.float64)
    ids = torch.tensor([3, 5, 3, 8])  # one image stands twice
    expected = 0.0
    for i in range(4):
        for j in range(4):
            if ids[i] != ids[j]:
                expected += math.log1p(math.exp(scores[i, j] - scores[i, i]))
                expected += math.log1p(math.exp(scores[i, j] - scores[j, j]))
    assert objective(scores, ids, ids).item() == pytest.approx(expected)


def test_an_objective_of_class_labels():
    objective = shown("SameClass")
    assert isinstance(objective, FeatureObjective)
    images, texts = made_up_features(4, 5, seed=1), made_up_features(4, 3, seed=2)
    labels = torch.tensor([[1, 0], [0, 1], [1, 0], [1, 1]]).bool()
    encoded = encoded_batch(images, texts, labels=labels)
    logits = Cosine()(images, texts).log_softmax(dim=1)
    expected = 0.0
    for i in range(4):
        positives = [j for j in range(4) if (labels[i] & labels[j]).any()]
        expected -= sum(float(logits[i, j]) for j in positives) / len(positives) / 4
    loss = objective.loss(LocalComparison(Cosine(), encoded))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
