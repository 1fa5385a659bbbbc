import math

import pytest
import torch

from itm_lightning.part import from_config, to_config
from itm_lightning.pooling import AttentionPooling, MaxPooling, MeanPooling
from itm_lightning.registry import get, list_registered

LENGTHS = [3, 1, 5, 2]


@pytest.fixture
def tokens():
    return torch.randn(len(LENGTHS), 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask():
    return torch.arange(5) < torch.tensor(LENGTHS)[:, None]


@pytest.fixture(params=list_registered("pooling"))
def pooling(request):
    torch.manual_seed(1)
    pooling = get("pooling", request.param)()
    pooling.build(6)
    return pooling.eval()


def pooled_of(pooling, tokens, mask):
    """As an encoder does it."""
    return pooling(pooling.relate(tokens, mask), mask)


class TestEveryPooling:
    def test_gives_one_vector_a_row(self, pooling, tokens, mask):
        assert pooled_of(pooling, tokens, mask).shape == (4, 6)

    def test_padding_changes_nothing(self, pooling, tokens, mask):
        pooled = pooled_of(pooling, tokens, mask)
        for row, length in enumerate(LENGTHS):
            alone = pooled_of(pooling, tokens[row : row + 1, :length], mask[row : row + 1, :length])
            torch.testing.assert_close(pooled[row : row + 1], alone)
        other_padding = tokens.masked_fill(~mask[..., None], 1e6)
        torch.testing.assert_close(pooled_of(pooling, other_padding, mask), pooled)

    def test_row_without_tokens_gives_zeros_and_finite_gradients(self, pooling, tokens, mask):
        mask[1] = False
        tokens.requires_grad_()
        pooled = pooled_of(pooling, tokens, mask)
        pooled.square().sum().backward()
        assert pooled[1].tolist() == [0.0] * 6
        assert pooled[0].abs().sum() > 0
        for tensor in (tokens, *pooling.parameters()):
            assert tensor.grad.isfinite().all()

    def test_recipe_builds_it_again(self, pooling, tokens, mask):
        again = from_config(to_config(pooling))
        again.build(6)
        again.load_state_dict(pooling.state_dict())
        torch.testing.assert_close(
            pooled_of(again.eval(), tokens, mask), pooled_of(pooling, tokens, mask)
        )


SMALL = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]]])
SMALL_MASK = torch.tensor([[True, True, False]])


def test_mean_of_the_real_tokens():
    assert MeanPooling()(SMALL, SMALL_MASK).tolist() == [[2.0, -3.0]]


def test_maximum_of_the_real_tokens():
    assert MaxPooling()(SMALL, SMALL_MASK).tolist() == [[3.0, -2.0]]


def test_attention_by_hand():
    pooling = AttentionPooling(hidden=1)
    pooling.build(2)
    with torch.no_grad():
        pooling.scorer[0].weight.copy_(torch.tensor([[1.0, 0.0]]))
        pooling.scorer[0].bias.fill_(-2.0)
        pooling.scorer[2].weight.fill_(2.0)
    first, second = math.exp(2 * math.tanh(-1)), math.exp(2 * math.tanh(1))
    weight = first / (first + second)
    expected = torch.tensor([[weight, 1 - weight, 0.0]])
    torch.testing.assert_close(pooling.weights(SMALL, SMALL_MASK), expected)
    pooled = torch.tensor([[weight * 1 + (1 - weight) * 3, weight * -4 + (1 - weight) * -2]])
    torch.testing.assert_close(pooling(SMALL, SMALL_MASK), pooled)


def test_attention_equals_the_obvious_loop(tokens, mask):
    torch.manual_seed(2)
    pooling = AttentionPooling(hidden=4)
    pooling.build(6)
    weights, pooled = pooling.weights(tokens, mask), pooling(tokens, mask)
    for row, length in enumerate(LENGTHS):
        scores = [math.exp(pooling.scorer(tokens[row, i]).item()) for i in range(length)]
        expected = torch.zeros(6)
        for i, score in enumerate(scores):
            assert weights[row, i].item() == pytest.approx(score / sum(scores), rel=1e-5)
            expected += score / sum(scores) * tokens[row, i]
        torch.testing.assert_close(pooled[row], expected)
        assert weights[row, length:].tolist() == [0.0] * (5 - length)


def test_attention_hidden_layer_is_as_wide_as_the_tokens_unless_told():
    wide, narrow = AttentionPooling(), AttentionPooling(hidden=3)
    wide.build(6)
    narrow.build(6)
    assert wide.scorer[0].out_features == 6
    assert narrow.scorer[0].out_features == 3
