import math

import pytest
import torch

from itm_lightning import registry
from itm_lightning.errors import InputError
from itm_lightning.objectives import (
    FeatureObjective,
    InfoNCE,
    LocalComparison,
    Triplet,
    WeightedSum,
)
from itm_lightning.part import from_config, to_config
from itm_lightning.similarity import Cosine, OrderEmbedding
from itm_lightning.types import Features
from tests.made_up import golden
from tests.objectives.losses import IDS, example

REGISTERED = {
    name: registry.get("objective", name) for name in registry.list_registered("objective")
}
OBJECTIVES = {n: c for n, c in REGISTERED.items() if not issubclass(c, FeatureObjective)}


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return example(request.param)


@pytest.fixture
def scores():
    return torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


def test_a_false_negative_does_not_matter(objective, scores):
    other = scores.clone()
    other[0, 2] = other[2, 0] = 5.0
    torch.testing.assert_close(objective(other, IDS, IDS), objective(scores, IDS, IDS))
    assert not torch.allclose(objective(other), objective(scores))


def test_its_gradient_is_finite_and_none_at_false_negatives(objective, scores):
    scores.requires_grad_()
    objective(scores, IDS, IDS).backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[0, 2] == scores.grad[2, 0] == 0
    assert (scores.grad.diagonal() < 0).any()


def test_without_ids_every_other_pair_is_a_negative(objective, scores):
    distinct = torch.arange(4)
    torch.testing.assert_close(objective(scores), objective(scores, distinct, distinct))


def test_the_order_of_the_batch_does_not_matter(objective, scores):
    order = torch.tensor([2, 0, 3, 1])
    permuted = objective(scores[order][:, order], IDS[order], IDS[order])
    torch.testing.assert_close(permuted, objective(scores, IDS, IDS))


def test_both_directions_weigh_the_same(objective, scores):
    torch.testing.assert_close(objective(scores.T), objective(scores))


def test_half_precision_scores_give_a_float32_loss(objective, scores):
    loss = objective(scores.bfloat16())
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    torch.testing.assert_close(loss, objective(scores.bfloat16().float()))


def test_survives_a_recipe(objective, scores):
    torch.testing.assert_close(from_config(to_config(objective))(scores), objective(scores))


def test_negatives_and_positives_by_hand(scores):
    negatives = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]).bool()
    batch = LocalComparison.of_scores(scores, IDS, IDS)
    for queries in (batch.image_queries, batch.text_queries):
        assert queries.negatives.equal(negatives)
        assert queries.positives.equal(torch.eye(4).bool())
        assert queries.valid.equal(negatives | torch.eye(4).bool())
        assert queries.positive_scores.squeeze(1).equal(scores.diagonal())


@pytest.mark.parametrize(
    ("head", "measure", "margin"), [(Cosine(), "cosine", 0.2), (OrderEmbedding(), "order", 0.05)]
)
@pytest.mark.parametrize(("kind", "hardest"), [("sum", False), ("max", True)])
def test_triplet_equals_the_published_implementation(head, measure, margin, kind, hardest):
    data = golden("triplet")
    images, texts = (Features.from_pooled(data[side]) for side in ("images", "captions"))
    scores = head(images, texts)
    torch.testing.assert_close(scores, data[f"{measure}_scores"], atol=1e-5, rtol=0)
    loss = Triplet(margin=margin, hardest=hardest)(scores)
    torch.testing.assert_close(loss, data[f"triplet__{measure}__{kind}"], atol=1e-5, rtol=1e-6)


def slow_triplet(scores, ids, margin, hardest):
    total, n = 0.0, len(scores)
    for i in range(n):
        others = [j for j in range(n) if ids[j] != ids[i]]
        for line in (scores[i, :], scores[:, i]):
            costs = [max(0.0, margin + float(line[j] - scores[i, i])) for j in others]
            total += max(costs) if hardest else sum(costs)
    return total


@pytest.mark.parametrize("hardest", [False, True])
def test_triplet_equals_the_obvious_loop(scores, hardest):
    loss = Triplet(margin=0.5, hardest=hardest)(scores, IDS, IDS)
    assert loss.item() == pytest.approx(slow_triplet(scores, IDS, 0.5, hardest), rel=1e-5)


def test_triplet_warms_up_from_the_sum_to_the_hardest_in_training_alone(scores):
    objective = Triplet(warmup_steps=4)
    every, hardest = Triplet(hardest=False)(scores), Triplet()(scores)
    objective.eval()
    torch.testing.assert_close(objective(scores), every)
    torch.testing.assert_close(objective(scores), every)
    objective.train()
    for share in (0, 0.25, 0.5, 0.75, 1, 1):
        torch.testing.assert_close(objective(scores), (1 - share) * every + share * hardest)


def test_triplet_goes_over_to_the_hardest_at_once(scores):
    objective = Triplet(warmup_steps=2, blend=False)
    every, hardest = Triplet(hardest=False)(scores), Triplet()(scores)
    for expected in (every, every, hardest, hardest):
        torch.testing.assert_close(objective(scores), expected)


def test_triplet_resumes_its_warm_up(scores):
    objective = Triplet(warmup_steps=4)
    objective(scores), objective(scores)
    resumed = Triplet(warmup_steps=4)
    resumed.load_state_dict(objective.state_dict())
    torch.testing.assert_close(resumed(scores), objective(scores))
    assert not torch.allclose(Triplet(warmup_steps=4)(scores), objective(scores))


def test_triplet_refuses_a_warm_up_to_nowhere():
    with pytest.raises(InputError, match="warmup_steps"):
        Triplet(hardest=False, warmup_steps=3)


def slow_info_nce(scores, ids, temperature):
    total, n = 0.0, len(scores)
    for i in range(n):
        candidates = [j for j in range(n) if j == i or ids[j] != ids[i]]
        for line in (scores[i, :], scores[:, i]):
            odds = {j: math.exp(float(line[j]) / temperature) for j in candidates}
            total -= math.log(odds[i] / sum(odds.values())) / (2 * n)
    return total


def test_info_nce_equals_the_obvious_loop(scores):
    loss = InfoNCE(temperature=0.5)(scores, IDS, IDS)
    assert loss.item() == pytest.approx(slow_info_nce(scores, IDS, 0.5), rel=1e-5)


def test_info_nce_learns_its_temperature_or_not(scores):
    learnt, fixed = InfoNCE(0.1), InfoNCE(0.1, learnable=False)
    learnt(scores).backward()
    assert learnt.log_scale.grad.abs() > 0
    assert not list(fixed.parameters())
    assert learnt.state_dict().keys() == fixed.state_dict().keys() == {"log_scale"}


def test_info_nce_never_gets_sharper_than_clip_and_comes_back(scores):
    objective = InfoNCE()
    objective.log_scale.data.fill_(10.0)
    objective(scores).backward()
    assert objective.log_scale.exp().item() == pytest.approx(100)
    assert objective.log_scale.grad.abs() > 0


@pytest.mark.parametrize("temperature", [0, -1, 0.001])
def test_info_nce_refuses_a_temperature_it_cannot_hold(temperature):
    with pytest.raises(InputError, match="temperature"):
        InfoNCE(temperature)


def test_weighted_sum_by_hand(scores):
    objective = WeightedSum([Triplet(), InfoNCE(0.5)], weights=[2.0, 0.25])
    expected = 2 * Triplet()(scores) + 0.25 * InfoNCE(0.5)(scores)
    torch.testing.assert_close(objective(scores), expected)
    assert len(list(objective.parameters())) == 1


@pytest.mark.parametrize(("n", "weights"), [(0, None), (2, [1.0])])
def test_weighted_sum_refuses_what_does_not_match(n, weights):
    with pytest.raises(InputError, match=f"{n} objectives"):
        WeightedSum([Triplet() for _ in range(n)], weights)
