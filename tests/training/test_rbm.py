"""Restricted Boltzmann machines by slow loops, and what starting from them is worth."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from itm_lightning import Matcher
from itm_lightning.encoders import ImageVectors, MLPProjection, TextVectors
from itm_lightning.errors import InputError
from itm_lightning.objectives import CorrAE, LocalComparison
from itm_lightning.similarity import CCA, CodeCosine
from itm_lightning.training import RBMPretraining
from itm_lightning.training.rbm import RBM, contrastive_divergence, train_rbm
from itm_lightning.training.rbm_pretraining import Stack, pretrain
from itm_lightning.types import Batch, Features, Widths
from tests.made_up import encoded_batch

UNITS = ["gaussian", "binary", "softmax"]


def machine(units):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(*shape, generator=generator).double() for shape in ((4, 3), (4,), (3,))]
    return RBM(*parts, units)


def rows_of(units, n=6):
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(n, 4, generator=generator).double()
    return {"gaussian": real, "binary": real.sigmoid(), "softmax": real.abs().mul(3).round() + 1}[
        units
    ]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_hidden(rbm, v):
    n = sum(v) if rbm.units == "softmax" else 1
    return [
        sigmoid(
            sum(v[i] * float(rbm.weight[i, j]) for i in range(4)) + n * float(rbm.hidden_bias[j])
        )
        for j in range(3)
    ]


def slow_visible(rbm, h, n):
    inputs = [
        sum(h[j] * float(rbm.weight[i, j]) for j in range(3)) + float(rbm.visible_bias[i])
        for i in range(4)
    ]
    if rbm.units == "gaussian":
        return inputs
    if rbm.units == "binary":
        return [sigmoid(x) for x in inputs]
    return [n * math.exp(x) / sum(math.exp(y) for y in inputs) for x in inputs]


@pytest.mark.parametrize("units", UNITS)
def test_contrastive_divergence_equals_the_obvious_loop(units):
    rbm, rows = machine(units), rows_of(units)
    found = contrastive_divergence(rbm, rows, torch.Generator().manual_seed(2))
    # the same samples
    sampled = torch.bernoulli(rbm.hidden(rows), generator=torch.Generator().manual_seed(2))
    weight, visible_bias, hidden_bias = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3)
    for v, sample in zip(rows.tolist(), sampled.tolist(), strict=True):
        n = sum(v) if units == "softmax" else 1
        p, v1 = slow_hidden(rbm, v), slow_visible(rbm, sample, sum(v))
        h1 = slow_hidden(rbm, v1)
        for i in range(4):
            visible_bias[i] += (v[i] - v1[i]) / 6
            for j in range(3):
                weight[i, j] += (v[i] * p[j] - v1[i] * h1[j]) / 6
        for j in range(3):
            hidden_bias[j] += n * (p[j] - h1[j]) / 6
    for ours, expected in zip(found, (weight, visible_bias, hidden_bias), strict=True):
        torch.testing.assert_close(ours, expected.double(), rtol=1e-5, atol=1e-5)


def patterns(units, n=300):
    """Rows of two kinds."""
    generator = torch.Generator().manual_seed(3)
    kinds = torch.rand(n, 1, generator=generator) < 0.5
    first = torch.tensor([0.9, 0.9, 0.9, 0.1, 0.1, 0.1])
    shares = torch.where(kinds, first, first.flip(0))
    if units == "gaussian":
        rows = shares * 4 + torch.randn(n, 6, generator=generator)
        return (rows - rows.mean(dim=0)) / rows.std(dim=0)
    if units == "binary":
        return torch.bernoulli(shares, generator=generator)
    return torch.poisson(shares * 5, generator=generator) + 0.01


@pytest.mark.parametrize("units", UNITS)
def test_a_machine_learns_to_reconstruct_rows_that_it_has_not_seen(units):
    rows = patterns(units, 1000)
    seen, unseen = rows[:700], rows[700:]
    untrained, trained = (
        train_rbm(seen, 4, units, epochs, torch.Generator().manual_seed(0)) for epochs in (0, 80)
    )
    before, after = (each.reconstruction_error(unseen) for each in (untrained, trained))
    assert after < 0.7 * before


def stack_of(units, hidden=5, dim=4):
    layers = [nn.Linear(6, hidden), nn.Linear(hidden, dim)]
    return Stack(layers, [[nn.Linear(dim, hidden), nn.Linear(hidden, 6)]], units)


@pytest.mark.parametrize("units", UNITS)
def test_layers_are_the_machines_and_decoders_their_mirror(units):
    rows = patterns(units) * 10 + 3 if units == "gaussian" else patterns(units)
    other = patterns("binary").flip(1)
    stacks = stack_of(units), stack_of("binary")
    with torch.no_grad():
        pretrain((rows, other), stacks, 3, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0)
    inputs = (rows - mean) / deviation if units == "gaussian" else rows
    first = train_rbm(inputs, 5, units, 3, generator)
    hidden = first.hidden(inputs)
    others = train_rbm(other, 5, "binary", 3, generator).hidden(other)
    joint = train_rbm(torch.cat([hidden, others], dim=1), 4, "binary", 3, generator)
    (layers, (decoder,)) = stacks[0].layers, stacks[0].decoders
    if units == "softmax":  # of the mean length, where the network knows no other
        first = RBM(first.weight, first.visible_bias, first.hidden_bias, "binary")
        first.hidden_bias = first.hidden_bias * rows.sum(dim=1).mean()
        hidden = first.hidden(inputs)
    torch.testing.assert_close(layers[0](rows).sigmoid(), hidden)
    codes = [stack.layers[1](side) for stack, side in zip(stacks, (hidden, others), strict=True)]
    both = torch.cat([hidden, others], dim=1)
    torch.testing.assert_close((codes[0] + codes[1]).sigmoid(), joint.hidden(both))
    code = joint.hidden(both)
    torch.testing.assert_close(decoder[0](code).sigmoid(), joint.visible(code)[:, :5])
    decoded = decoder[1](hidden)
    if units == "gaussian":
        decoded = (decoded - mean) / deviation
    torch.testing.assert_close(decoded, hidden @ first.weight.mT + first.visible_bias)


def test_pretraining_lowers_the_reconstruction_error_at_equal_steps():
    rows = patterns("gaussian", 1000)
    sides = rows, rows.flip(1)

    def error_after_steps(pretrained):
        torch.manual_seed(0)
        objective = CorrAE(hidden=8)
        objective.build(Widths(6, 6, 4, 4))
        stacks = []
        for side in ("image", "text"):
            decoder = objective.decoders[f"{side}_to_{side}"]
            layers = [nn.Linear(6, 8), nn.Linear(8, 4)]
            stacks.append(Stack(layers, [[decoder[0], decoder[2]]], "gaussian"))
        if pretrained:
            with torch.no_grad():
                pretrain([side[:700] for side in sides], stacks, 60)

        def pairs(part):
            encoded = [Features.from_pooled(side[part]) for side in sides]
            projected = [
                Features.from_pooled(stack.layers[1](stack.layers[0](side.pooled).sigmoid()))
                for stack, side in zip(stacks, encoded, strict=True)
            ]
            batch = encoded_batch(*projected)
            encoded = replace(batch, encoded_images=encoded[0], encoded_texts=encoded[1])
            return LocalComparison(CodeCosine(), encoded)

        layers = [layer for stack in stacks for layer in stack.layers]
        parameters = [p for module in (objective, *layers) for p in module.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=3e-3)
        for _ in range(30):
            optimizer.zero_grad()
            objective.loss(pairs(slice(0, 700))).backward()
            optimizer.step()
        unseen = pairs(slice(700, 1000))
        codes = objective.codes(unseen.images)
        return objective.errors(unseen, codes, "image", "image").item()

    assert error_after_steps(pretrained=True) < 0.9 * error_after_steps(pretrained=False)


def matcher(objective=None, dims=(4, 4), **kwargs):
    kwargs = {"hidden": 5, "activation": "sigmoid"} | kwargs
    projections = [MLPProjection(dim=dim, **kwargs) for dim in dims]
    return Matcher(
        ImageVectors(dim=6),
        TextVectors(dim=3),
        objective=objective,
        image_projection=projections[0],
        text_projection=projections[1],
        similarity=CodeCosine() if dims[0] == dims[1] else CCA(components=2),
    )


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda: matcher(activation="relu"), "set model.image_projection to MLPProjection with"),
        (lambda: matcher(batch_norm=True), "without batch_norm and skip"),
        (lambda: matcher(CorrAE(hidden=7)), "objective has hidden 7 .*image_projection 5 and 1"),
        (lambda: matcher(CorrAE(hidden=5, layers=2)), "layers 2"),
        (lambda: matcher(dims=(4, 2)), "codes of images have 4 numbers and those of texts 2"),
    ],
)
def test_what_cannot_be_pretrained_is_refused_before_a_fit(made, what):
    model = made()
    with pytest.raises(InputError, match=f"RBMPretraining.*{what}"):
        RBMPretraining().setup(None, model, "fit")
    RBMPretraining().setup(None, model, "test")  # which needs no pre-training
    with pytest.raises(InputError, match="epochs is 0"):
        RBMPretraining(epochs=0)


PAIRS = 20


def sides():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(PAIRS, d, generator=generator) for d in (6, 3)]


def started(step, batches_of_rows, seed=3):
    """A model whose fit starts at that step, with such batches of the train split's pairs."""
    images, texts = sides()

    def batch(rows):
        labels = torch.zeros(len(rows), 0, dtype=torch.bool)
        own = Features.from_tokens(images[rows][:, None]), Features.from_pooled(texts[rows])
        return Batch(*own, rows, rows, rows, labels)

    torch.manual_seed(seed)
    model = matcher(CorrAE(hidden=5))
    data = SimpleNamespace(evaluation_loader=lambda split: map(batch, batches_of_rows))
    on = SimpleNamespace(data=data, device=torch.device("cpu"), objective=model.objective)
    for name in ("image_encoder", "text_encoder", "image_projection", "text_projection"):
        setattr(on, name, getattr(model, name))
    RBMPretraining(epochs=2).on_train_start(SimpleNamespace(global_step=step), on)
    return model


def test_a_fit_starts_from_machines_of_the_train_split_and_one_that_goes_on_does_not():
    batches = torch.arange(PAIRS).split(12)
    torch.manual_seed(3)
    before = matcher(CorrAE(hidden=5)).state_dict()
    for name, value in started(7, batches).state_dict().items():
        assert torch.equal(value, before[name])
    model, (images, _) = started(0, batches), sides()
    encoder, decoder = model.image_projection.network, model.objective.decoders["image_to_image"]
    standardised = (images - images.mean(dim=0)) / images.std(dim=0, correction=0)
    seeded = torch.Generator().manual_seed(torch.initial_seed())
    first = train_rbm(standardised, 5, "gaussian", 2, seeded)
    torch.testing.assert_close(encoder[1](images).sigmoid(), first.hidden(standardised))
    torch.testing.assert_close(decoder[0].weight, encoder[-1].weight.mT)
