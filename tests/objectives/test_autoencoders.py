"""Autoencoders: their losses against slow, obvious ones, and what they reconstruct."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from itm_lightning.errors import InputError
from itm_lightning.objectives import (
    BimodalAutoencoder,
    CorrAE,
    CorrCrossAE,
    CorrFullAE,
    LocalComparison,
)
from itm_lightning.objectives.autoencoder import reconstruction_errors
from itm_lightning.similarity import CodeCosine
from itm_lightning.types import Features, Widths
from tests.made_up import encoded_batch

VARIANTS = [BimodalAutoencoder, CorrAE, CorrCrossAE, CorrFullAE]
WIDTHS = Widths(5, 3, 4, 4)


def made(cls, **kwargs):
    torch.manual_seed(0)
    objective = cls(hidden=6, **kwargs)
    objective.build(WIDTHS)
    return objective.double()


def comparison(seed=0, n=7):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, d, generator=generator).double() for d in (4, 4, 5, 3)]
    images, texts, *encoded = map(Features.from_pooled, rows)
    encoded[1] = Features.from_pooled(rows[3].abs())  # may be words
    batch = replace(
        encoded_batch(images, texts), encoded_images=encoded[0], encoded_texts=encoded[1]
    )
    return LocalComparison(CodeCosine(), batch)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_decoded(decoder, code):
    first, _, second = decoder
    hidden = [
        sigmoid(sum(w * c for w, c in zip(row, code, strict=True)) + b)
        for row, b in zip(first.weight.tolist(), first.bias.tolist(), strict=True)
    ]
    return [
        sum(w * h for w, h in zip(row, hidden, strict=True)) + b
        for row, b in zip(second.weight.tolist(), second.bias.tolist(), strict=True)
    ]


def slow_error(decoder, codes, vectors):
    """The squared error, as a share of that of the mean."""
    mean = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]

    def squared(left, right):
        return sum((a - b) ** 2 for a, b in zip(left, right, strict=True))

    errors = [squared(slow_decoded(decoder, c), v) for c, v in zip(codes, vectors, strict=True)]
    return sum(errors) / sum(squared(mean, vector) for vector in vectors)


def slow_codes(*sides):
    return [
        [sigmoid(sum(each)) for each in zip(*rows, strict=True)]
        for rows in zip(*sides, strict=True)
    ]


@pytest.mark.parametrize("cls", VARIANTS)
def test_losses_equal_the_obvious_loop(cls):
    objective, pairs = made(cls), comparison()
    i, t = pairs.images.pooled.tolist(), pairs.texts.pooled.tolist()
    vectors = {
        "image": pairs.encoded.encoded_images.pooled.tolist(),
        "text": pairs.encoded.encoded_texts.pooled.tolist(),
    }
    if cls is BimodalAutoencoder:
        expected = 0.0
        for codes in (slow_codes(i, t), slow_codes(i), slow_codes(t)):
            for side in ("image", "text"):
                decoder = objective.decoders[f"joint_to_{side}"]
                expected += slow_error(decoder, codes, vectors[side]) / 3
    else:
        codes = {"image": slow_codes(i), "text": slow_codes(t)}
        pair_of_codes = list(zip(codes["image"], codes["text"], strict=True))
        distance = sum((a - b) ** 2 for f, g in pair_of_codes for a, b in zip(f, g, strict=True))
        alpha = 0.2 if cls is CorrCrossAE else 0.8
        own, cross = [("image", "image"), ("text", "text")], [("image", "text"), ("text", "image")]
        reconstructed = {CorrAE: own, CorrCrossAE: cross, CorrFullAE: own + cross}[cls]
        expected = alpha * distance / (7 * 4)
        for source, side in reconstructed:
            decoder = objective.decoders[f"{source}_to_{side}"]
            expected += (1 - alpha) * slow_error(decoder, codes[source], vectors[side])
    assert objective.loss(pairs).item() == pytest.approx(expected)


def test_errors_of_each_kind_of_numbers_by_hand():
    decoded = torch.tensor([[0.0, math.log(3)]])
    real, shares = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    gaussian = reconstruction_errors(decoded, real, "gaussian")
    assert gaussian.item() == pytest.approx(1 + math.log(3) ** 2)
    # probabilities ½ and ¾, of 1 and 0
    binary = reconstruction_errors(decoded, real, "binary")
    assert binary.item() == pytest.approx(math.log(2) + math.log(4))
    # words ¼ and ¾, once and twice
    softmax = reconstruction_errors(decoded, shares, "softmax")
    assert softmax.item() == pytest.approx(math.log(4) + 2 * math.log(4 / 3))


@pytest.mark.parametrize("units", ["binary", "softmax"])
def test_other_numbers_are_averaged_over_what_is_predicted(units):
    objective, pairs = made(CorrAE, text_units=units), comparison()
    codes, vectors = objective.codes(pairs.texts), pairs.encoded.encoded_texts.pooled
    errors = reconstruction_errors(objective.decoders["text_to_text"](codes), vectors, units)
    expected = (errors / (3 if units == "binary" else vectors.sum(dim=1))).mean()
    torch.testing.assert_close(objective.errors(pairs, codes, "text", "text"), expected)
    guessed = objective.reconstruct_texts(pairs.images)
    assert ((guessed > 0) & (guessed < 1)).all()
    if units == "softmax":
        torch.testing.assert_close(guessed.sum(dim=1), torch.ones(7).double())


@pytest.mark.parametrize("cls", VARIANTS)
def test_the_scale_of_an_encoder_does_not_matter(cls):
    """Where the decoder's last layer is scaled with it."""
    objective, pairs = made(cls), comparison()
    before = objective.loss(pairs)
    encoded = pairs.encoded
    scaled = Features.from_pooled(1e3 * encoded.encoded_images.pooled)
    for name, decoder in objective.decoders.items():
        if name.endswith("_to_image"):
            for parameter in decoder[-1].parameters():
                parameter.data *= 1e3
    again = LocalComparison(CodeCosine(), replace(encoded, encoded_images=scaled))
    torch.testing.assert_close(objective.loss(again), before)


@pytest.mark.parametrize("cls", VARIANTS)
def test_a_missing_side_is_reconstructed_better_than_by_the_mean_on_held_out_pairs(cls):
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(400, 2, generator=generator)
    encoded = [
        factors @ torch.randn(2, d, generator=generator)
        + 0.3 * torch.randn(400, d, generator=generator)
        for d in (5, 3)
    ]
    torch.manual_seed(0)
    objective = cls(hidden=16)
    objective.build(WIDTHS)
    towers = nn.ModuleList([nn.Linear(d, 4) for d in (5, 3)])

    def pairs(rows):
        images, texts = (Features.from_pooled(e[rows]) for e in encoded)
        projected = (Features.from_pooled(t(e[rows])) for t, e in zip(towers, encoded, strict=True))
        batch = encoded_batch(*projected)
        return LocalComparison(
            CodeCosine(), replace(batch, encoded_images=images, encoded_texts=texts)
        )

    optimizer = torch.optim.Adam([*objective.parameters(), *towers.parameters()], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        objective.loss(pairs(slice(0, 300))).backward()
        optimizer.step()
    held_out = pairs(slice(300, 400))
    guesses = (
        objective.reconstruct_images(held_out.texts),
        objective.reconstruct_texts(held_out.images),
    )
    for guess, vectors in zip(guesses, encoded, strict=True):
        error = (guess - vectors[300:]).square().mean()
        of_mean = (vectors[:300].mean(dim=0) - vectors[300:]).square().mean()
        assert error < 0.5 * of_mean


def test_codes_that_collapse_are_warned_of_in_validation():
    objective, pairs = made(CorrAE), comparison()
    same = Features.from_pooled(pairs.images.pooled * 1e-3)
    collapsed = LocalComparison(CodeCosine(), replace(pairs.encoded, images=same))
    objective.loss(collapsed)  # in training, all codes may be the same at first
    objective.eval().loss(pairs)
    with pytest.warns(UserWarning, match="CorrAE: the codes of all images are the same"):
        objective.loss(collapsed)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="CorrAE: alpha is 1; it must be at least 0, and below 1"):
        CorrAE(alpha=1)
    with pytest.raises(InputError, match="hidden is 0; it must be at least 1"):
        CorrAE(hidden=0)
    with pytest.raises(InputError, match="there are no units 'poisson'"):
        BimodalAutoencoder(text_units="poisson")
    with pytest.raises(InputError, match="images have 4 numbers and texts 5"):
        CorrAE().build(Widths(5, 3, 4, 5))
    pairs = comparison()
    kept = replace(pairs.encoded, encoded_images=None, encoded_texts=None)
    with pytest.raises(InputError, match=r"CorrFullAE .*gradient_cache .* leave it out"):
        made(CorrFullAE).loss(LocalComparison(CodeCosine(), kept))


def test_the_head_compares_the_codes():
    pairs = comparison()
    i, t = slow_codes(pairs.images.pooled.tolist()), slow_codes(pairs.texts.pooled.tolist())
    scores = CodeCosine()(pairs.images, pairs.texts)
    products = sum(a * b for a, b in zip(i[2], t[5], strict=True))
    lengths = math.sqrt(sum(a * a for a in i[2]) * sum(b * b for b in t[5]))
    assert scores[2, 5].item() == pytest.approx(products / lengths)
