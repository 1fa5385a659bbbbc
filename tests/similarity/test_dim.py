"""A head built for one width, in a Matcher of another."""

import pytest

from itm_lightning import Matcher
from itm_lightning.encoders import RecurrentText, RegionFeatures
from itm_lightning.errors import InputError
from itm_lightning.objectives import InfoNCE
from itm_lightning.similarity import Bilinear, ClosedForm, Cosine, Ensemble, Mlp, Similarity
from tests.made_up import made_up_features
from tests.similarity.heads import DIM, heads_that_are


def matcher(head, dim):
    return Matcher(RegionFeatures(6), RecurrentText(hidden=4, word_dim=4), head, InfoNCE(), dim=dim)


def can_score(head, dim):
    images, texts = (made_up_features(2, length=3, dim=dim, seed=seed) for seed in (1, 2))
    try:
        head(images, texts)
    except InputError:
        return False
    return True


SOLVED = {parameter.id for parameter in heads_that_are(ClosedForm)}  # they take any width


@pytest.mark.parametrize("head", heads_that_are(Similarity, SOLVED))
@pytest.mark.parametrize("dim", [DIM, DIM + 1])
def test_a_matcher_refuses_at_once_the_width_that_a_head_cannot_score(head, dim):
    if can_score(head, dim):
        assert matcher(head, dim).similarity is head
        return
    named = rf"{type(head).__name__} has dim {DIM}, but the Matcher has dim {dim}"
    with pytest.raises(InputError, match=named):
        matcher(head, dim)


def test_some_heads_have_a_width_and_some_have_none():
    heads = [parameter.values[0] for parameter in heads_that_are(Similarity)]
    assert {head.dim for head in heads} == {None, DIM}


def test_an_ensemble_checks_its_heads_and_theirs():
    head = Ensemble([Cosine(), Ensemble([Bilinear(DIM), Mlp(4)])])
    with pytest.raises(InputError, match=rf"Mlp has dim 4, but the Matcher has dim {DIM}"):
        matcher(head, DIM)
    with pytest.raises(InputError, match=r"Bilinear has dim 8, but the Matcher has dim 4"):
        matcher(head, 4)
