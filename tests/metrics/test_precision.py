import pytest
import torch

from itm_lightning.metrics.precision import (
    average_precision_at_r,
    hit_rate,
    r_precision,
    ties_against_the_model,
)

HITS = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 1]]).bool()
RELEVANT = torch.tensor([2, 4, 1])  # how many answers are correct, found or not


def test_by_hand():
    assert float(hit_rate(HITS, 1)) == pytest.approx(100 / 3)
    assert float(hit_rate(HITS, 2)) == pytest.approx(200 / 3)
    assert float(r_precision(HITS, RELEVANT)) == pytest.approx(100 * (1 / 2 + 2 / 4 + 0) / 3)
    first, second = 1 / 2 * 1, 1 / 4 * (1 / 2 + 2 / 4)
    assert float(average_precision_at_r(HITS, RELEVANT)) == pytest.approx(
        100 * (first + second) / 3
    )


def test_among_equals_the_wrong_answers_come_first():
    scores = torch.tensor([[5.0, 7.0, 7.0, 7.0, 1.0], [2.0, 2.0, 2.0, 2.0, 3.0]])
    relevant = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 0, 1]]).bool()
    expected = torch.tensor([[0, 1, 1, 1, 0], [1, 0, 0, 1, 1]]).bool()
    assert ties_against_the_model(scores, relevant).equal(expected)


def test_equals_the_functions_of_the_eccv_caption_package():
    package = pytest.importorskip("eccv_caption._metrics", reason="needs pip install eccv_caption")
    generator = torch.Generator().manual_seed(0)
    rankings = torch.rand(50, 30, generator=generator).argsort(dim=1)
    relevant = torch.randint(1, 16, (50,), generator=generator)
    correct = [torch.randperm(40, generator=generator)[:n].tolist() for n in relevant]  # some > 29
    hits = torch.stack(
        [torch.isin(r, torch.tensor(c)) for r, c in zip(rankings, correct, strict=True)]
    )

    found = {query: ranking.tolist() for query, ranking in enumerate(rankings)}
    expected = package.compute_eccv_metrics(found, dict(enumerate(correct)))
    ours = average_precision_at_r(hits, relevant), r_precision(hits, relevant), hit_rate(hits, 1)
    names = "eccv_map_at_r", "eccv_rprecision", "eccv_r1"
    assert [float(score) for score in ours] == pytest.approx(
        [100 * expected[name] for name in names]
    )
    for k in (1, 5, 10):
        recall = package.compute_r_at_k(found, dict(enumerate(correct)), K=k)
        assert float(hit_rate(hits, k)) == pytest.approx(100 * recall)
