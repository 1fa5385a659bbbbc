"""Properties of every registered head, of features that hypothesis makes up."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itm_lightning.similarity import Similarity
from itm_lightning.types import Features
from tests.made_up import made_up_features
from tests.similarity.heads import DIM, WITHOUT_GRADIENT, heads_that_are

every_head = pytest.mark.parametrize("head", heads_that_are(Similarity))
every_head_that_learns = pytest.mark.parametrize(
    "head", heads_that_are(Similarity, WITHOUT_GRADIENT)
)
a_few = settings(max_examples=8, deadline=None, derandomize=True)
some_rows = st.integers(1, 5)


@st.composite
def some_features(draw):
    """One to five rows of one to six tokens, some of them padding."""
    seed = draw(st.integers(0, 999))
    return made_up_features(draw(some_rows), draw(st.integers(1, 6)), DIM, seed)


@st.composite
def extreme_features(draw):
    """Like :func:`some_features`, tiny, huge or mixed, and with a row of zeros."""
    features = draw(some_features())
    scales = st.sampled_from([0.0, 1e-20, 1e-4, 1.0, 1e4])
    scale = torch.tensor([[draw(scales)] for _ in range(len(features))])
    tokens, pooled = features.tokens * scale[..., None], features.pooled * scale
    return Features(tokens, features.mask, pooled)


def map_values(features, function):
    return Features(function(features.tokens), features.mask, function(features.pooled))


@every_head
@given(images=extreme_features(), texts=extreme_features())
@a_few
def test_scores_are_finite_whatever_the_scale(head, images, texts):
    assert head(images, texts).isfinite().all()


@every_head_that_learns
@given(images=extreme_features(), texts=extreme_features())
@a_few
def test_gradients_are_finite_whatever_the_scale(head, images, texts):
    sides = [map_values(side, lambda x: x.clone().requires_grad_()) for side in (images, texts)]
    leaves = [leaf for side in sides for leaf in (side.tokens, side.pooled)]
    gradients = torch.autograd.grad(head(*sides).sum(), leaves, allow_unused=True)
    assert any(gradient is not None for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@every_head
@given(images=some_features(), texts=some_features(), more=st.integers(1, 4))
@a_few
def test_padding_changes_nothing(head, images, texts, more):
    def padded(features):
        rubbish = torch.full((len(features), more, DIM), torch.nan)
        nothing = torch.zeros(len(features), more, dtype=torch.bool)
        tokens = torch.cat([features.tokens, rubbish], dim=1)
        return Features(tokens, torch.cat([features.mask, nothing], dim=1), features.pooled)

    torch.testing.assert_close(
        head(padded(images), padded(texts)), head(images, texts), atol=1e-5, rtol=1e-5
    )


@every_head
@given(images=some_features(), texts=some_features(), random=st.randoms())
@a_few
def test_permuting_rows_permutes_scores(head, images, texts, random):
    rows, columns = (
        torch.tensor(random.sample(range(len(side)), len(side))) for side in (images, texts)
    )
    permuted = head(images[rows], texts[columns])
    expected = head(images, texts)[rows][:, columns]
    torch.testing.assert_close(permuted, expected, atol=1e-6, rtol=1e-5)


@every_head
@given(images=some_features(), texts=some_features(), row=some_rows, column=some_rows)
@a_few
def test_blocks_change_nothing(head, images, texts, row, column):
    rows, columns = head.prepare_images(images), head.prepare_texts(texts)
    rows = [part for part in (rows[:row], rows[row:]) if len(part)]
    columns = [part for part in (columns[:column], columns[column:]) if len(part)]
    blocks = [torch.cat([head.score(r, c) for c in columns], dim=1) for r in rows]
    torch.testing.assert_close(torch.cat(blocks), head(images, texts), atol=1e-6, rtol=1e-6)


@every_head
@given(images=some_features(), texts=some_features())
@a_few
def test_autocast_stays_close_to_full_precision(head, images, texts):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(images, texts)
    assert scores.dtype == torch.float32
    exact = head(images, texts)
    largest = max(1.0, exact.abs().max().item())
    torch.testing.assert_close(scores, exact, atol=0.02 * largest, rtol=0)


@every_head_that_learns
def test_gradients_are_those_of_the_formula(head):
    head = copy.deepcopy(head).double()
    sides = [
        map_values(made_up_features(2, 3, DIM, seed), torch.Tensor.double) for seed in (11, 12)
    ]
    kept = [head.select(side) for side in sides]
    read = [x for side in kept for x in (side.tokens, side.pooled) if x is not None]
    learnt = [*(x.requires_grad_() for x in read), *head.parameters()]
    # gradcheck changes its inputs in place: the head need not be handed them
    assert torch.autograd.gradcheck(lambda *_: head(*kept), learnt, fast_mode=True)
