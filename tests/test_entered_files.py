"""How many files one has to read to follow a training step, or the scoring of a split."""

import pytest

from tests.entered_files import entered_files


@pytest.mark.parametrize(("head", "most"), [("Cosine", 14), ("CrossAttention", 16)])
def test_a_training_step_enters_few_files(head, most):
    step = entered_files(head).step
    assert {"matcher.py", "similarity/base.py"} <= step
    assert len(step) <= most, sorted(step)


def test_scoring_a_split_enters_few_files():
    scoring = entered_files("Cosine").scoring
    assert {"evaluating.py", "ranking/ranks.py"} <= scoring
    assert len(scoring) <= 17, sorted(scoring)
