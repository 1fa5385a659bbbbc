import inspect
import math
from dataclasses import replace

import pytest
import torch

from itm_lightning import registry
from itm_lightning.errors import InputError
from itm_lightning.objectives import (
    MMD,
    SCNLM,
    CaptionLoss,
    Diversity,
    Entailment,
    FeatureObjective,
    InfoNCE,
    InformationBottleneck,
    LocalComparison,
    Triplet,
    WeightedSum,
)
from itm_lightning.part import from_config, to_config
from itm_lightning.similarity import Cosine, Gaussian, Lorentz
from itm_lightning.similarity.spaces import Gaussians, exponential_map
from itm_lightning.types import Features
from tests.made_up import encoded_batch, made_up_features
from tests.objectives.losses import RANDOM, built, example

REGISTERED = [registry.get("objective", name) for name in registry.list_registered("objective")]
OBJECTIVES = [
    cls for cls in REGISTERED if issubclass(cls, FeatureObjective) and cls.__name__ not in RANDOM
]
HEADS = {Entailment: Lorentz(8), InformationBottleneck: Gaussian(8)}
# How many of images' and texts' features a gradient reaches; of most objectives, both.
REACHED = {CaptionLoss: 1, SCNLM: 0}
SCORES = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


class FixedScores(Cosine):
    """A head without a space of its own, whose scores are given."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, images, texts):
        return self.scores


def batch(images, texts, *ids, rows=None):
    n = len(images)
    labels = None if images.pooled is None else images.pooled > 0  # as many as DIM
    encoded = encoded_batch(images, texts, *ids, labels=labels, rows=rows)
    if images.pooled is not None:
        # what autoencoders reconstruct, which does not change by gradcheck's small steps
        i, t = (
            Features(side.tokens, side.mask, side.pooled.detach().round(decimals=2))
            for side in (images, texts)
        )
        encoded = replace(encoded, encoded_images=i, encoded_texts=t)
    return LocalComparison(FixedScores(SCORES[:n, :n]), encoded)


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return example(request.param.__name__)


def sides_for(objective, seed=1, dtype=torch.float32):
    """Four photos and captions, where the head that belongs to the objective lifts them."""
    sides = [
        Features(f.tokens.to(dtype), f.mask, f.pooled.to(dtype))
        for f in (made_up_features(4, n, seed=seed + n) for n in (5, 3))
    ]
    head = HEADS.get(type(objective))
    return sides if head is None else head.to(dtype).to_head_space(*sides)


def test_the_loss_is_finite_and_reaches_the_features(objective):
    images, texts = made_up_features(4, 5, seed=1), made_up_features(4, 3, seed=2)
    leaves = [x.requires_grad_() for side in (images, texts) for x in (side.tokens, side.pooled)]
    head = HEADS.get(type(objective))
    lifted = (images, texts) if head is None else head.to_head_space(images, texts)
    loss = objective.loss(batch(*lifted))
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    reached = [gradient for gradient in gradients if gradient is not None]
    assert len(reached) == REACHED.get(type(objective), 2)
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in reached)


def test_the_order_of_the_batch_does_not_matter(objective):
    order = torch.tensor([2, 0, 3, 1])
    images, texts = sides_for(objective)
    permuted = objective.loss(batch(images[order], texts[order], rows=order))
    torch.testing.assert_close(permuted, objective.loss(batch(images, texts)))


def test_padding_does_not_matter(objective):
    def padded(side):
        if side.tokens is None:
            return side
        rubbish = side.tokens.new_full((4, 2, 8), torch.nan)
        mask = torch.cat([side.mask, torch.zeros(4, 2, dtype=torch.bool)], dim=1)
        return Features(torch.cat([side.tokens, rubbish], dim=1), mask, side.pooled)

    images, texts = sides_for(objective)
    loss = objective.loss(batch(padded(images), padded(texts)))
    torch.testing.assert_close(loss, objective.loss(batch(images, texts)))


def test_features_of_another_head_are_refused_with_the_one_it_takes(objective):
    side = made_up_features(4, 5)
    reads_pooled = type(objective) not in (CaptionLoss, Diversity, MMD, *HEADS)
    kept = (side.tokens, side.mask, None) if reads_pooled else (None, None, side.pooled)
    with pytest.raises(InputError, match=f"{type(objective).__name__} reads .* use it with"):
        objective.loss(batch(Features(*kept), Features(*kept)))


def test_scores_alone_are_not_enough(objective):
    with pytest.raises(InputError, match="learns from features"):
        objective(SCORES)


def test_survives_a_recipe(objective):
    images, texts = sides_for(objective)
    again = built(from_config(to_config(objective)))
    torch.testing.assert_close(
        again.loss(batch(images, texts)), objective.loss(batch(images, texts))
    )


def test_weighted_sum_hands_on_what_each_reads():
    total = WeightedSum([Triplet(), Entailment()], weights=[1.0, 0.2])
    images, texts = sides_for(Entailment())
    expected = Triplet()(SCORES) + 0.2 * Entailment().loss(batch(images, texts))
    torch.testing.assert_close(total.loss(batch(images, texts)), expected)
    with pytest.raises(InputError, match="Entailment learns from features"):
        total(SCORES)


def test_an_objective_on_scores_ignores_the_features():
    ids = torch.tensor([7, 8, 7, 9])
    images, texts = sides_for(Diversity())
    objective = InfoNCE()
    torch.testing.assert_close(
        objective.loss(batch(images, texts, ids, ids)), objective(SCORES, ids, ids)
    )


def test_the_bottleneck_equals_torchs_divergence():
    images, texts = sides_for(InformationBottleneck())
    standard = torch.distributions.Normal(0.0, 1.0)
    expected = 0.0
    for side in (images, texts):
        ours = torch.distributions.Normal(side.pooled, (side.log_variance / 2).exp())
        expected += torch.distributions.kl_divergence(ours, standard).mean()
    torch.testing.assert_close(InformationBottleneck().loss(batch(images, texts)), expected)


def test_the_bottleneck_by_hand():
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(2)]])
    side = Gaussians(None, None, mean, log_variance)
    # dimensions: ½ (1 + 1 - 1 - 0), ½ (0 + 2 - 1 - log 2); twice their mean
    expected = 0.5 + (1 - math.log(2)) / 2
    assert InformationBottleneck().loss(batch(side, side)).item() == pytest.approx(expected)


def points(*rows):
    return exponential_map(torch.tensor(rows))


def test_a_image_beyond_its_text_on_the_same_ray_is_entailed():
    texts, images = points([1.0, 0.0], [0.0, 0.5]), points([3.0, 0.0], [0.0, 0.6])
    assert Entailment().loss(batch(images, texts)) == 0


def test_entailment_by_hand():
    """Straight back to the vertex is an angle of π; the aperture's sine is 2K over sinh 1."""
    images, texts = points([0.5, 0.0], [3.0, 0.0]), points([1.0, 0.0], [1.0, 0.0])
    aperture = math.asin(0.2 / math.sinh(1))
    loss = Entailment().loss(batch(images, texts))
    assert loss.item() == pytest.approx((math.pi - aperture) / 2, abs=3e-4)


def test_entailment_is_not_symmetric():
    near, far = points([1.0, 0.1]), points([2.0, 0.1])
    assert Entailment().loss(batch(far, near)) < Entailment().loss(batch(near, far))


def test_a_wider_radius_forgives_more():
    texts, images = points([1.0, 0.0]), points([1.0, 1.0])
    strict, lenient = (Entailment(r).loss(batch(images, texts)) for r in (0.01, 0.4))
    assert 0 < lenient < strict


def slow_diversity(side):
    rows = []
    for tokens, mask in zip(side.tokens, side.mask, strict=True):
        unit = [token / token.norm() for token in tokens[mask]]
        pairs = [(i, j) for i in range(len(unit)) for j in range(i)]
        alike = [math.exp(-2 * float((unit[i] - unit[j]).norm()) ** 2) for i, j in pairs]
        rows.append(sum(alike) / len(alike) if alike else 0.0)
    return sum(rows) / len(rows)


def test_diversity_equals_the_obvious_loop():
    images, texts = sides_for(Diversity())
    assert texts.mask.sum(1).min() == 1  # a set of one
    expected = slow_diversity(images) + slow_diversity(texts)
    assert Diversity().loss(batch(images, texts)).item() == pytest.approx(expected, rel=1e-5)


def test_diversity_is_one_a_side_where_all_tokens_are_one():
    side = Features.from_tokens(torch.ones(2, 3, 4) * torch.tensor([1.0, 2, 3])[:, None])
    assert Diversity().loss(batch(side, side)).item() == pytest.approx(2)


def slow_discrepancy(left, right):
    def mean(xs, ys):
        kernel = [math.exp(-float((x - y).norm()) / 2) for x in xs for y in ys]
        return sum(kernel) / len(kernel)

    v, t = (
        [token / token.norm() for token in side.tokens[side.mask].double()]
        for side in (left, right)
    )
    return mean(v, v) - 2 * mean(v, t) + mean(t, t)


def test_mmd_equals_the_obvious_loop():
    images, texts = sides_for(MMD())
    expected = slow_discrepancy(images, texts)
    assert MMD().loss(batch(images, texts)).item() == pytest.approx(expected, abs=1e-5)


def test_mmd_is_zero_between_a_set_and_itself_and_grows_apart():
    images, _ = sides_for(MMD())
    shifted = Features(images.tokens + 5, images.mask, images.pooled)
    assert MMD().loss(batch(images, images)).item() == pytest.approx(0, abs=1e-6)
    assert MMD().loss(batch(images, shifted)) > 0.1


def test_gradients_are_those_of_the_formulas(objective):
    if REACHED.get(type(objective)) == 0:
        pytest.skip("it trains its own weights alone")
    images, texts = sides_for(objective.double(), dtype=torch.float64)

    def leaves(side):
        values = [side.tokens, side.pooled, getattr(side, "log_variance", None)]
        return [None if x is None else x.detach().requires_grad_() for x in values]

    def rebuilt(side, values):
        if isinstance(side, Gaussians):
            return Gaussians(None, None, *values[1:])
        if "time" in inspect.signature(type(side)).parameters:
            time = (values[1].square().sum(-1) + 1).sqrt()
            return type(side)(None, None, values[1], time)
        return Features(values[0], side.mask, values[1])

    v, t = leaves(images), leaves(texts)
    read = [x for x in (*v, *t) if x is not None]
    assert torch.autograd.gradcheck(
        lambda *_: objective.loss(batch(rebuilt(images, v), rebuilt(texts, t))),
        read,
        fast_mode=True,
    )
