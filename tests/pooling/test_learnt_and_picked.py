"""GPO, first and last, recurrent and k-max: each by hand and against the obvious loop."""

import math

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.pooling import (
    GPO,
    FirstPooling,
    KMaxPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
    RecurrentPooling,
)
from itm_lightning.pooling.gpo import position_encodings
from tests.made_up import golden, made_up_features

SMALL = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]]])
SMALL_MASK = torch.tensor([[True, True, False]])


@pytest.fixture
def features():
    return made_up_features(5, 7, dim=6, seed=1)


def test_first_and_last_real_token():
    assert FirstPooling()(SMALL, SMALL_MASK).tolist() == [[1.0, -4.0]]
    assert LastPooling()(SMALL, SMALL_MASK).tolist() == [[3.0, -2.0]]
    padded_on_the_left = ~SMALL_MASK
    assert FirstPooling()(SMALL, padded_on_the_left).tolist() == [[9.0, 9.0]]
    assert LastPooling()(SMALL, padded_on_the_left).tolist() == [[9.0, 9.0]]


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [9.0, 9.0]), (2, [6.0, 3.5]), (3, [13 / 3, 1.0]), (9, [13 / 3, 1.0])]
)
def test_k_max_by_hand(k, expected):
    everything = torch.ones(1, 3, dtype=torch.bool)
    pooled = KMaxPooling(k)(SMALL, everything)
    torch.testing.assert_close(pooled, torch.tensor([expected]))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_k_max_equals_the_obvious_loop(features, k):
    pooled = KMaxPooling(k)(features.tokens, features.mask)
    for row in range(5):
        real = features.tokens[row, features.mask[row]]
        for d in range(6):
            largest = sorted(real[:, d].tolist(), reverse=True)[:k]
            assert pooled[row, d].item() == pytest.approx(sum(largest) / len(largest), rel=1e-5)


def test_k_max_of_one_and_of_all(features):
    tokens, mask = features.tokens, features.mask
    torch.testing.assert_close(KMaxPooling(1)(tokens, mask), MaxPooling()(tokens, mask))
    torch.testing.assert_close(KMaxPooling(7)(tokens, mask), MeanPooling()(tokens, mask))


def test_k_below_one_is_refused():
    with pytest.raises(InputError, match="k is 0; it must be at least 1"):
        KMaxPooling(0)


def test_recurrent_equals_the_obvious_loop(features):
    torch.manual_seed(0)
    pooling = RecurrentPooling()
    pooling.build(6)
    cell = torch.nn.GRUCell(6, 6)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in pooling.gru.state_dict().items()})
    pooled = pooling(features.tokens, features.mask)
    for row in range(5):
        state = torch.zeros(6)
        for token in features.tokens[row, features.mask[row]]:
            state = cell(token, state)
        torch.testing.assert_close(pooled[row], state)


def test_recurrent_reads_over_gaps(features):
    torch.manual_seed(0)
    pooling = RecurrentPooling()
    pooling.build(6)
    tokens = features.tokens[:1]
    gaps = torch.stack([torch.full_like(tokens, torch.nan), tokens], dim=2).flatten(1, 2)
    pooled = pooling(gaps, torch.tensor([[False, True] * 7]))
    torch.testing.assert_close(pooled, pooling(tokens, features.mask[:1]))


class TestGPO:
    @pytest.fixture
    def pooling(self):
        torch.manual_seed(0)
        return GPO(position_dim=4, hidden=3)

    def test_equals_the_published_implementation(self):
        data = golden("gpo")
        pooling = GPO()
        state = {k.removeprefix("state."): v for k, v in data.items() if k.startswith("state.")}
        pooling.load_state_dict(state)
        mask = torch.arange(data["features"].shape[1]) < data["lengths"][:, None]
        weights = data["weights"].squeeze(-1)
        torch.testing.assert_close(pooling.weights(mask), weights, atol=1e-5, rtol=0)
        pooled = pooling(data["features"], mask)
        torch.testing.assert_close(pooled, data["pooled"], atol=1e-5, rtol=0)

    def test_equals_the_obvious_loop(self, pooling, features):
        pooled = pooling(features.tokens, features.mask)
        for row in range(5):
            real = features.tokens[row, features.mask[row]]
            states, _ = pooling.gru(position_encodings(len(real), 4))
            scores = [(s[:3] + s[3:]) / 2 @ pooling.linear.weight[0] / 0.1 for s in states]
            weights = [math.exp(score.item()) for score in scores]
            expected = torch.zeros(6)
            for rank, weight in enumerate(weights):
                largest = [sorted(real[:, d].tolist(), reverse=True)[rank] for d in range(6)]
                expected += weight / sum(weights) * torch.tensor(largest)
            torch.testing.assert_close(pooled[row], expected)

    def test_indifferent_scores_give_the_mean(self, pooling, features):
        torch.nn.init.zeros_(pooling.linear.weight)
        pooled = pooling(features.tokens, features.mask)
        torch.testing.assert_close(pooled, MeanPooling()(features.tokens, features.mask))

    def test_order_of_the_tokens_does_not_matter(self, pooling, features):
        flipped = pooling(features.tokens.flip(1), features.mask.flip(1))
        torch.testing.assert_close(flipped, pooling(features.tokens, features.mask))

    def test_gradients_equal_finite_differences(self, pooling, features):
        pooling, tokens = pooling.double(), features.tokens.double().requires_grad_()
        parameters = list(pooling.parameters())
        assert torch.autograd.gradcheck(
            lambda *_: pooling(tokens, features.mask), [tokens, *parameters], fast_mode=True
        )


def test_position_encodings_by_hand():
    expected = [[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    torch.testing.assert_close(position_encodings(2, 4), torch.tensor(expected))
