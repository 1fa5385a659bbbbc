"""The objective that the README shows is what it says it is."""

import math
import re

import pytest
import torch

from itm_lightning.objectives import QueryObjective
from tests.conftest import REPO


def test_an_objective_of_your_own():
    readme = (REPO / "README.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*class Softplus[^`]*)```", readme)
    names = {}
    exec(code, names)
    objective = names["Softplus"]()
    assert isinstance(objective, QueryObjective)

    scores = torch.randn(4, 4, dtype=torch.float64)
    ids = torch.tensor([3, 5, 3, 8])  # one photo stands twice
    expected = 0.0
    for i in range(4):
        for j in range(4):
            if ids[i] != ids[j]:
                expected += math.log1p(math.exp(scores[i, j] - scores[i, i]))
                expected += math.log1p(math.exp(scores[i, j] - scores[j, j]))
    assert objective(scores, ids, ids).item() == pytest.approx(expected)
