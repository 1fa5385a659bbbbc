import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import TransformerMatching, unit_tokens
from tests.made_up import made_up_features
from tests.similarity.pairs import unit_rows

IMAGES, TEXTS = made_up_features(4, 7, seed=1), made_up_features(5, 4, seed=2)


@pytest.fixture
def head():
    return TransformerMatching(8, width=128, layers=2).double()


def slow_norm(vector, norm):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def slow_layer(tokens, layer):
    """All tokens, one by one and head by head."""
    normed = [slow_norm(token, layer.attention_norm) for token in tokens]
    queries = [layer.query(x).view(-1, 64) for x in normed]
    pairs = [layer.key_value(x).view(2, -1, 64) for x in normed]
    new = []
    for token, query in zip(tokens, queries, strict=True):
        found = []
        for k, q in enumerate(query):
            logits = torch.stack([q @ pair[0, k] / math.sqrt(64) for pair in pairs])
            powers = logits.exp() / logits.exp().sum()
            found.append(sum(p * pair[1, k] for p, pair in zip(powers, pairs, strict=True)))
        token = token + layer.output(torch.cat(found))
        norm, widen, gelu, narrow = layer.feed_forward
        new.append(token + narrow(gelu(widen(slow_norm(token, norm)))))
    return new


def slow_score(head, regions, words):
    def embedded(token, kind):
        return slow_norm(head.projection(token) + kind, head.embedded_norm)

    tokens = [head.score_token]
    tokens += [embedded(v, head.image_type) for v in regions]
    tokens += [embedded(t, head.text_type) for t in words]
    for layer in head.layers:
        tokens = slow_layer(tokens, layer)
    return head.evaluate(slow_norm(tokens[0], head.final_norm))


@torch.no_grad()
def test_equals_a_transformer_written_out(head):
    for parameter in head.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    scores = head(IMAGES, TEXTS)
    assert scores.std() > 0.01
    for i in range(4):
        for j in range(5):
            regions, words = unit_rows(IMAGES, i).double(), unit_rows(TEXTS, j).double()
            expected = slow_score(head, regions, words).item()
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-6)


def test_tells_the_sides_apart(head):
    sides = [made_up_features(3, 4, seed=seed, ragged=False) for seed in (1, 2)]
    assert (head(*sides) - head(*sides[::-1]).T).abs().max() > 1e-3


@pytest.mark.parametrize("pairs", [1, 7])
def test_tiles_change_neither_scores_nor_gradients(head, monkeypatch, pairs):
    def scores_and_gradients():
        head.zero_grad()
        scores = head(IMAGES, TEXTS)
        scores.square().sum().backward()
        return scores.detach(), [p.grad.clone() for p in head.parameters()]

    scores, gradients = scores_and_gradients()
    monkeypatch.setattr(unit_tokens, "_TILE_CPU_ELEMENTS", pairs * head.pair_elements(7, 4, 8))
    again, gradients_again = scores_and_gradients()
    torch.testing.assert_close(again, scores)
    torch.testing.assert_close(gradients_again, gradients)


def test_blocks_are_chosen_by_the_widest_layer():
    assert TransformerMatching(1024).pair_elements(36, 12, 1024) == 49 * 4 * 256


def test_runs_in_half_precision_throughout():
    head = TransformerMatching(8, width=64)
    scores = head(IMAGES, TEXTS)
    half = head.bfloat16()(IMAGES, TEXTS)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, scores, atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 100}, "width must be a multiple of 64, not 100"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"layers": 0}, "layers is 0; it must be at least 1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(arguments, message):
    with pytest.raises(InputError, match=f"TransformerMatching: {message}"):
        TransformerMatching(8, **arguments)


def test_another_width_is_refused_with_the_mend(head):
    with pytest.raises(InputError, match=r"\(dim=8\) got vectors of width 9: set dim to 9"):
        head(made_up_features(2, 3, dim=9), TEXTS)
