"""Matchers that score a split together, from Python."""

from dataclasses import replace

import pytest
import torch

from itm_lightning import ITMDataModule
from itm_lightning.ensemble import Encoding
from itm_lightning.errors import InputError
from itm_lightning.metrics.voters import Voter, together
from itm_lightning.similarity import MaxSim
from tests.test_matcher import SCENES, matcher, trainer


@pytest.fixture
def models(tmp_path):
    """A Matcher, and another that encodes for it."""
    models, data = [matcher(), matcher(MaxSim())], ITMDataModule(SCENES, batch_size=4)
    for model in models:
        runner = trainer(tmp_path)
        runner.fit(model, datamodule=data)
        runner.save_checkpoint(tmp_path / "model.ckpt")
    return models[0], Encoding.load_from_checkpoint(tmp_path / "model.ckpt")


def scored(model, folder):
    data = ITMDataModule(SCENES, batch_size=4)
    trainer(folder).test(model, datamodule=data, verbose=False)
    return model.results


def test_voters_are_for_one_evaluation(models, tmp_path):
    model, other = models
    alone = scored(model, tmp_path)
    assert not scored(other, tmp_path)  # it scores nothing itself
    model.voters = [other.voter(1e6)]  # the mean is all but its own
    voted = scored(model, tmp_path)
    assert model.evaluation.models == 2
    assert voted != alone
    assert scored(model, tmp_path) == alone
    assert model.evaluation.models == 1


def test_what_has_seen_nothing_cannot_vote(models, tmp_path):
    _, other = models
    with pytest.raises(InputError, match=r"trainer\.test first"):
        other.voter(1.0)
    scored(other, tmp_path)
    other.voter(1.0)
    with pytest.raises(InputError, match="has seen no split"):
        other.voter(1.0)


def test_models_that_saw_other_images_do_not_vote_together(models, tmp_path):
    _, other = models
    scored(other, tmp_path)
    voter = other.voter(1.0)
    ids = voter.gallery.text_ids
    for others in (ids.flip(0), ids[1:], None):
        stranger = Voter(1.0, voter.similarity, replace(voter.gallery, text_ids=others))
        with pytest.raises(InputError, match="same photos and captions"):
            together([voter, stranger], torch.device("cpu"))
