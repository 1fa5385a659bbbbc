"""Projections: each by its formula, and as parts of a Matcher."""

import pytest
import pytorch_lightning as pl
import torch

from itm_lightning import Matcher, registry
from itm_lightning.encoders import (
    LinearProjection,
    MLPProjection,
    NoProjection,
    RecurrentText,
    RegionFeatures,
)
from itm_lightning.errors import InputError
from itm_lightning.objectives import InfoNCE
from itm_lightning.part import from_config, to_config
from itm_lightning.pooling import MaxPooling
from itm_lightning.similarity import Cosine, Mlp
from itm_lightning.types import Features
from tests.made_up import made_up_features

WORDS = ["a red ring", "two blue things", "a ring"]


@pytest.fixture(params=registry.list_registered("projection"))
def projection(request):
    return registry.get("projection", request.param)()


def test_each_vector_is_projected_by_itself(projection):
    width = projection.build(8)
    projection.eval()
    features = made_up_features(3, 4, dim=8)
    projected = projection(features)
    assert projected.tokens.shape == (3, 4, width)
    assert projected.mask is features.mask
    torch.testing.assert_close(projected.tokens[1, 2], projection.project(features.tokens[1, 2]))
    torch.testing.assert_close(projected.pooled[2], projection.project(features.pooled[2]))
    pooled_only = projection(Features.from_pooled(features.pooled))
    assert pooled_only.tokens is None
    torch.testing.assert_close(pooled_only.pooled, projected.pooled)


def test_it_survives_a_config_and_a_state_dict(projection):
    projection.build(8)
    again = from_config(to_config(projection))
    again.build(8)
    again.load_state_dict(projection.state_dict())
    vectors = torch.randn(5, 8)
    projected = projection.eval().project(vectors)
    torch.testing.assert_close(again.eval().project(vectors), projected)


def test_by_hand():
    linear, mlp = LinearProjection(dim=1), MLPProjection(dim=1, hidden=2)
    linear.build(2)
    mlp.build(2)
    with torch.no_grad():
        linear.linear.weight.copy_(torch.tensor([[2.0, -1.0]]))
        linear.linear.bias.fill_(0.5)
        mlp.network[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        mlp.network[4].weight.copy_(torch.tensor([[3.0, 5.0]]))
    vector = torch.tensor([3.0, 4.0])
    assert linear.project(vector).item() == pytest.approx(2 * 3 - 4 + 0.5)
    assert mlp.project(vector).item() == pytest.approx(3 * 3 + 5 * 0)  # relu(-4) is 0
    assert NoProjection().project(vector) is vector


def test_channels_are_standardised_before_the_linear_map():
    linear = LinearProjection(dim=1, standardise=True)
    linear.build(2)
    with torch.no_grad():
        linear.linear.weight.copy_(torch.tensor([[1.0, 10.0]]))
    # (B, L, 2): means 3 and 200, population variances 3.5 and 10,000
    values = torch.tensor([[[1.0, 100.0], [2.0, 300.0]], [[3.0, 100.0], [6.0, 300.0]]])
    expected = (values[..., :1] - 3) / 3.5**0.5 + 10 * (values[..., 1:] - 200) / 100
    torch.testing.assert_close(linear.train().project(values), expected, atol=1e-4, rtol=1e-4)
    linear.standardise.running_mean.copy_(torch.tensor([1.0, 0.0]))
    linear.standardise.running_var.copy_(torch.tensor([4.0, 1.0]))
    vector = torch.tensor([5.0, 0.5])  # one vector, by the statistics of training
    assert linear.eval().project(vector).item() == pytest.approx(2 + 5, rel=1e-4)


def test_batch_norm_and_skip_by_hand():
    mlp = MLPProjection(dim=1, hidden=1, batch_norm=True, skip=True)
    mlp.build(1)
    with torch.no_grad():
        for layer, value in ((mlp.network[1], 2.0), (mlp.network[5], 3.0), (mlp.skip, 10.0)):
            layer.weight.fill_(value)
    values = torch.tensor([[[1.0], [2.0]], [[3.0], [6.0]]])  # (B, L, 1), mean 3, variance 3.5
    deviations = (values - 3) / 3.5**0.5
    expected = 3 * deviations.relu() + 10 * values
    torch.testing.assert_close(mlp.train().project(values), expected, atol=1e-4, rtol=1e-4)
    evaluated = 3 * (2 * values - 0.1 * 6) / (0.9 + 0.1 * 4 * 3.5 * 4 / 3) ** 0.5 + 10 * values
    torch.testing.assert_close(mlp.eval().project(values), evaluated, atol=1e-4, rtol=1e-4)


def test_an_encoders_own_projection_comes_before_its_pooling():
    encoder = RegionFeatures(2, pooling=MaxPooling(), projection=LinearProjection(dim=1))
    with torch.no_grad():
        encoder.projection.linear.weight.copy_(torch.tensor([[1.0, -1.0]]))
    regions = torch.tensor([[[5.0, 1.0], [6.0, 7.0]]])
    features = encoder(Features(regions, torch.ones(1, 2, dtype=torch.bool), None))
    assert (encoder.trunk_dim, encoder.dim) == (2, 1)
    assert features.tokens.flatten().tolist() == [4, -1]
    assert features.pooled.item() == 4  # the projection of the maxima (6, 7) would be -1


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: LinearProjection(dim=0), "LinearProjection: dim is 0"),
        (lambda: MLPProjection(dim=-1), "MLPProjection: dim is -1"),
        (lambda: MLPProjection(hidden=0), "MLPProjection: hidden is 0"),
        (lambda: MLPProjection(layers=0), "MLPProjection: layers is 0"),
    ],
)
def test_widths_below_one_are_refused(build, what):
    with pytest.raises(InputError, match=what):
        build()


def matcher(**kwargs):
    torch.manual_seed(0)
    text_encoder = RecurrentText(hidden=3, word_dim=4)
    text_encoder.learn_vocabulary(WORDS)
    return Matcher(RegionFeatures(dim=5), text_encoder, **kwargs)


def scores(model):
    return model.eval()(made_up_features(2, 3, dim=5), WORDS)


def test_with_none_the_encoders_own_vectors_are_compared():
    model = matcher(image_projection=MLPProjection(dim=6), text_projection=NoProjection())
    regions = made_up_features(2, 3, dim=5)
    images = model.image_projection(model.image_encoder(regions))
    texts = model.text_encoder(WORDS)
    torch.testing.assert_close(scores(model), Cosine()(images, texts))


def test_each_side_has_a_width_of_its_own_which_the_head_must_accept():
    with pytest.raises(InputError, match="images have 4 numbers and texts 6"):
        matcher(image_projection=LinearProjection(dim=4), text_projection=LinearProjection(dim=6))
    with pytest.raises(InputError, match="Mlp has dim 8"):
        matcher(similarity=Mlp(dim=8), dim=4)


def test_a_shared_projection_is_one_set_of_weights_after_each_sides_own():
    model = matcher(dim=7, shared_projection=LinearProjection(dim=2))
    shared = model.shared_projection
    regions = made_up_features(2, 3, dim=5)
    images = shared(model.image_projection(model.image_encoder(regions)))
    texts = shared(model.text_projection(model.text_encoder(WORDS)))
    assert images.pooled.shape[1] == 2
    torch.testing.assert_close(scores(model), Cosine()(images, texts))
    names = [name for name, _ in model.named_parameters() if name.startswith("shared_projection")]
    assert names == ["shared_projection.linear.weight", "shared_projection.linear.bias"]


def test_a_shared_projection_needs_one_width():
    with pytest.raises(InputError, match=r"shared_projection needs one width.* 4 .* 6"):
        matcher(
            image_projection=LinearProjection(dim=4),
            text_projection=LinearProjection(dim=6),
            shared_projection=LinearProjection(dim=2),
        )


def test_projections_come_back_from_a_checkpoint(tmp_path):
    model = matcher(
        image_projection=MLPProjection(dim=6, hidden=3, dropout=0.5),
        text_projection=NoProjection(),
        shared_projection=LinearProjection(dim=4),
        objective=InfoNCE(),
    )
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    again = Matcher.load_from_checkpoint(tmp_path / "model.ckpt")
    torch.testing.assert_close(scores(again), scores(model))
    assert to_config(again.image_projection) == to_config(model.image_projection)
