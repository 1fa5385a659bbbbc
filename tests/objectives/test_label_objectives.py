"""The objectives that learn from class labels: their equations, against slow and obvious ones."""

import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.objectives import (
    DMSH,
    DSCMR,
    DeepSemanticMapping,
    LocalComparison,
    WeaklyAligned,
)
from itm_lightning.objectives.gaussian_mixture import Mixture, fit_mixture
from itm_lightning.similarity import Cosine
from itm_lightning.types import Features, Widths
from tests.made_up import encoded_batch

#: One class, another, the first again, two classes, none.
LABELS = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).bool()
N, CLASSES = LABELS.shape


def ready(objective, dim=4):
    torch.manual_seed(0)
    objective.build(Widths(dim, dim, dim, dim))
    objective.learn_classes([f"class {i}" for i in range(CLASSES)])
    return objective.double().requires_grad_(False)


def sides(dim=4):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(N, dim, generator=generator, dtype=torch.float64) for _ in range(2)]


def loss_of(objective, images, texts, labels=LABELS):
    features = Features.from_pooled(images), Features.from_pooled(texts)
    comparison = LocalComparison(Cosine(), encoded_batch(*features, labels=labels))
    return objective.loss(comparison)


def cross_entropy(logits, labels):
    """The mean over the item's classes; 0 of an item without."""
    log_sum = math.log(sum(math.exp(x) for x in logits.tolist()))
    classes = labels.nonzero().flatten().tolist()
    return sum(log_sum - float(logits[c]) for c in classes) / max(1, len(classes))


def cosine(x, y):
    return float(x @ y) / (float(x.norm()) * float(y.norm()))


def test_dscmr_equals_the_obvious_loop():
    objective = ready(DSCMR(likelihood=0.3, invariance=0.2))
    u, v = sides()
    weight, bias = objective.classifier.weight, objective.classifier.bias
    expected = 0.0
    for i in range(N):
        for side in (u, v):
            error = weight @ side[i] + bias - LABELS[i].double()
            expected += float(error.square().sum()) ** 0.5 / N
        expected += 0.2 * float((u[i] - v[i]).square().sum()) ** 0.5 / N
        for j in range(N):
            same = float((LABELS[i] & LABELS[j]).any())
            for x, y in ((u, v), (u, u), (v, v)):
                theta = cosine(x[i], y[j]) / 2
                expected += 0.3 * (math.log(1 + math.exp(theta)) - same * theta) / N**2
    assert loss_of(objective, u, v).item() == pytest.approx(expected, abs=1e-12)


def test_dscmr_has_a_gradient_where_image_and_text_are_one_vector():
    u, _ = sides()
    u.requires_grad_()
    loss_of(ready(DSCMR()), u, u).backward()
    assert u.grad.isfinite().all()


def test_deep_semantic_mapping_equals_the_obvious_loop():
    objective = ready(DeepSemanticMapping(intra=0.7, hidden=5), dim=CLASSES)
    u, v = sides(CLASSES)
    zero = torch.zeros(CLASSES, dtype=torch.float64)
    expected = 0.0
    for i in range(N):
        expected += 0.7 * (cross_entropy(u[i], LABELS[i]) + cross_entropy(v[i], LABELS[i])) / N
        for image, text in ((u[i], v[i]), (u[i], zero), (zero, v[i])):
            fused = objective.fusion(torch.cat([image, text]))
            expected += cross_entropy(fused, LABELS[i]) / 3 / N
    assert loss_of(objective, u, v).item() == pytest.approx(expected, abs=1e-12)


def test_deep_semantic_mapping_refuses_a_width_that_is_not_the_number_of_classes():
    with pytest.raises(
        InputError, match=r"3 classes and the projections give 4 numbers: set model\.dim"
    ):
        ready(DeepSemanticMapping())


def slow_dmsh(u, v, quantisation, balance):
    f, g = u.tanh(), v.tanh()
    bits = u.shape[1]
    expected = 0.0
    for i in range(N):
        for j in range(N):
            both = (LABELS[i] & LABELS[j]).sum().item()
            sizes = LABELS[i].sum().item() * LABELS[j].sum().item()
            shared = both / sizes**0.5 if sizes else 0.0
            theta = float(f[i] @ g[j]) / 2
            if shared == 0 or abs(shared - 1) < 1e-9:
                term = math.log(1 + math.exp(theta)) - round(shared) * theta
            else:
                term = ((1 + cosine(f[i], g[j])) / 2 - shared) ** 2
            expected += term / N**2
        for k in range(bits):
            bit = 1.0 if f[i, k] + g[i, k] >= 0 else -1.0
            for code in (f, g):
                expected += quantisation * (float(code[i, k]) - bit) ** 2 / N / bits
    for k in range(bits):
        for code in (f, g):
            expected += balance * float(code[:, k].mean()) ** 2 / bits
    return expected


def test_dmsh_equals_the_obvious_loop():
    u, v = sides()
    loss = loss_of(ready(DMSH(quantisation=0.3, balance=0.6)), u, v)
    assert loss.item() == pytest.approx(slow_dmsh(u, v, 0.3, 0.6), abs=1e-12)


def test_dmsh_does_not_overflow_with_long_codes():
    u = torch.full((N, 512), 50.0, requires_grad=True)
    loss = loss_of(ready(DMSH(), dim=512).float(), u, -u)
    loss.backward()
    assert loss.isfinite()
    assert u.grad.isfinite().all()


def test_weakly_aligned_equals_the_obvious_loop():
    objective = ready(WeaklyAligned(regularisation=0.4, components=2, bank=N, text_weight=0.5))
    u, v = sides()
    loss = loss_of(objective, u, v)  # fills the bank, and fits the density
    expected = 0.0
    for i in range(N):
        for side, weight in ((u, 1.0), (v, 0.5)):
            expected += weight * cross_entropy(objective.classifier(side[i]), LABELS[i]) / N
        density = 0.0
        for k in range(2):
            joint = float(objective.weights[k])
            for d in range(4):
                mean, variance = float(objective.means[k, d]), float(objective.variances[k, d])
                joint *= math.exp(-((float(v[i, d]) - mean) ** 2) / variance / 2)
                joint /= math.sqrt(2 * math.pi * variance)
            density += joint
        expected -= 0.4 * math.log(density) / 4 / N
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_weakly_aligned_fits_the_density_each_time_the_bank_is_full():
    objective = ready(WeaklyAligned(components=1, bank=2 * N))
    u, v = sides()
    plain = ready(WeaklyAligned(regularisation=0.0))
    before = loss_of(objective, u, v)
    torch.testing.assert_close(before, loss_of(plain, u, v))  # there is no density yet
    assert not torch.allclose(loss_of(objective, 2 * u, v), loss_of(plain, 2 * u, v))
    first = torch.cat([u, 2 * u])
    torch.testing.assert_close(objective.means[0], first.mean(0))
    torch.testing.assert_close(objective.variances[0], first.var(0, correction=0))
    loss_of(objective, 3 * u, v)
    torch.testing.assert_close(objective.means[0], first.mean(0))  # half of the bank is new
    objective.eval()
    loss_of(objective, 4 * u, v)  # of the validation split: not remembered
    assert objective.seen == 3 * N
    objective.train()
    loss_of(objective, 5 * u, v)
    torch.testing.assert_close(objective.means[0], torch.cat([3 * u, 5 * u]).mean(0))


def test_the_density_gives_texts_a_gradient_and_images_none():
    u, v = (side.requires_grad_() for side in sides())
    objective = ready(WeaklyAligned(components=2, bank=N, text_weight=0.0))
    plain = ready(WeaklyAligned(regularisation=0.0, text_weight=0.0))
    of_u, of_v = torch.autograd.grad(loss_of(objective, u, v), (u, v))
    plain_of_u, plain_of_v = torch.autograd.grad(loss_of(plain, u, v), (u, v))
    torch.testing.assert_close(of_u, plain_of_u)
    assert plain_of_v.abs().max() == 0
    assert of_v.abs().min() > 0


@pytest.mark.parametrize(("components", "bank"), [(0, 5), (6, 5)])
def test_weakly_aligned_refuses_a_mixture_that_the_bank_cannot_hold(components, bank):
    with pytest.raises(InputError, match="WeaklyAligned: components"):
        WeaklyAligned(components=components, bank=bank)


@pytest.fixture
def rows():
    """Three clouds in no order."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    picked = torch.randint(3, (400,), generator=generator)
    noise = torch.randn(400, 2, generator=generator) * torch.tensor([1.0, 0.5])
    return (centres[picked] + noise).double()


def test_a_mixture_has_the_density_of_torchs(rows):
    fitted = fit_mixture(rows, 3)
    distributions = torch.distributions
    components = distributions.Normal(fitted.means, fitted.variances.sqrt())
    expected = distributions.MixtureSameFamily(
        distributions.Categorical(fitted.weights), distributions.Independent(components, 1)
    )
    torch.testing.assert_close(fitted.log_densities(rows), expected.log_prob(rows))


def test_a_fitted_mixture_finds_the_clouds(rows):
    fitted = fit_mixture(rows, 3)
    found = sorted(fitted.means.round().abs().int().tolist())
    assert found == [[0, 0], [0, 9], [8, 0]]
    assert fitted.weights.sum().item() == pytest.approx(1)
    best = fitted.log_densities(rows).mean()
    assert best > fit_mixture(rows, 1).log_densities(rows).mean() + 0.5


def test_a_fitted_mixture_is_a_fixed_point_of_expectation_maximisation(rows):
    fitted = fit_mixture(rows, 3)
    shares = torch.zeros(len(rows), 3, dtype=torch.float64)
    for i, row in enumerate(rows):
        for k in range(3):
            squares = (row - fitted.means[k]) ** 2 / fitted.variances[k]
            volume = (2 * math.pi * fitted.variances[k]).sqrt().prod()
            shares[i, k] = fitted.weights[k] * (-squares.sum() / 2).exp() / volume
        shares[i] /= shares[i].sum()
    for k in range(3):
        share = shares[:, k : k + 1]
        mean = (share * rows).sum(0) / share.sum()
        variance = (share * (rows - mean) ** 2).sum(0) / share.sum()
        torch.testing.assert_close(fitted.means[k], mean, atol=1e-3, rtol=0)
        torch.testing.assert_close(fitted.variances[k], variance, atol=1e-2, rtol=0)
        assert fitted.weights[k].item() == pytest.approx(float(share.mean()), abs=1e-3)


def test_rows_that_are_all_the_same_have_a_density():
    density = fit_mixture(torch.ones(8, 3), 2).log_densities(torch.ones(1, 3))
    assert density.isfinite().all()


def test_a_mixture_of_float32_computes_in_float64():
    mixture = Mixture(torch.ones(1), torch.full((1, 2), 1e4), torch.full((1, 2), 1e-4))
    assert mixture.log_densities(torch.full((1, 2), 1e4)).item() == pytest.approx(
        -math.log(2 * math.pi * 1e-4), abs=1e-3
    )
