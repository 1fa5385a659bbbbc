"""EnsembleMatcher: Matchers that score as one, from Python."""

import copy

import pytest
import torch

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.encoders import RecurrentText, RegionFeatures
from itm_lightning.ensemble import EnsembleMatcher
from itm_lightning.errors import InputError
from itm_lightning.metrics import retrieval_recall
from itm_lightning.similarity import Cosine, MaxSim
from itm_lightning.types import MemberFeatures
from tests.made_up import made_up_features
from tests.test_matcher import SCENES, matcher, trainer


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two Matchers that agree in nothing but the data, fitted."""
    models = [matcher(), matcher(MaxSim())]
    for model in models:
        runner = trainer(tmp_path_factory.mktemp("fit"))
        runner.fit(model, datamodule=ITMDataModule(SCENES, batch_size=4))
    return [model.eval() for model in models]


def scored(model, folder, source=SCENES):
    trainer(folder).test(model, datamodule=ITMDataModule(source, batch_size=4), verbose=False)
    return model.results


@pytest.fixture
def decoded(monkeypatch):
    """The location of every image that is decoded."""
    seen, image = [], type(SCENES).image
    monkeypatch.setattr(
        type(SCENES), "image", lambda s, r: (seen.append(r.location), image(s, r))[1]
    )
    return seen


def test_scores_are_the_weighted_mean_and_each_image_is_decoded_once(models, tmp_path, decoded):
    alone = scored(models[0], tmp_path)
    by_one = list(decoded)  # once to be checked, and once to be encoded
    ensemble = EnsembleMatcher(models, [1, 3])
    found = scored(ensemble, tmp_path)
    assert decoded == 2 * by_one
    assert found != alone
    data = ITMDataModule(SCENES, batch_size=100).connect(models[0].image_encoder)
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        one, three = (model(batch.images, batch.texts) for model in models)
    expected = retrieval_recall((one + 3 * three) / 4, batch.image_ids, batch.text_image_ids)
    for key, value in expected.items():
        assert found[f"test/{key}"] == pytest.approx(float(value), abs=1e-5), key
    assert ensemble.evaluation.models == 2


def test_a_batch_has_one_tensor_a_transform(models):
    encoders = [model.image_encoder for model in models]
    other = matcher().image_encoder
    other.image_size = 48
    data = ITMDataModule(SCENES, batch_size=3).connect(*encoders, other)
    images = next(iter(data.test_dataloader())).images
    assert isinstance(images, MemberFeatures)
    first, second, third = images.parts
    assert first is second
    assert (first.shape[-1], third.shape[-1]) == (64, 48)
    moved = images.map(torch.clone)
    assert moved.parts[0] is moved.parts[1]
    alone = next(iter(ITMDataModule(SCENES, batch_size=3).connect(other).test_dataloader())).images
    assert third.equal(alone)
    assert third.stride() == alone.stride()


def test_all_members_read_the_same_regions():
    regions = made_up_features(3, 4, 6)
    members = [
        Matcher(RegionFeatures(dim=6), RecurrentText(hidden=8, word_dim=8), head, dim=8).eval()
        for head in (Cosine(), MaxSim())
    ]
    parts = EnsembleMatcher(members).encode_images(regions).parts
    assert parts[0].pooled.equal(members[0].encode_images(regions).pooled)
    assert parts[1].tokens.equal(members[1].encode_images(regions).tokens)


def test_a_nan_names_the_members_head(models, tmp_path):
    broken = copy.deepcopy(models[1])
    with torch.no_grad():
        broken.text_projection.linear.weight.fill_(torch.nan)
    with pytest.raises(InputError, match="MaxSim gave a NaN"):
        scored(EnsembleMatcher([models[0], broken]), tmp_path)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(models, weights):
    with pytest.raises(InputError, match=r"for 2 models|weights is nan"):
        EnsembleMatcher(models, weights)
