"""Fingerprints differ where the tokens do, and only there."""

import copy
import json
import shutil

import pytest
import torch
from torch import nn

from itm_lightning.encoders import PretrainedVision, RegionFeatures, TorchvisionCNN
from itm_lightning.encoders.base import tensors_sha256
from itm_lightning.part import from_config, skip_pretrained, to_config
from itm_lightning.pooling import MaxPooling


@pytest.fixture
def weights(tmp_path):
    from torchvision.models import squeezenet1_1

    path = tmp_path / "weights.pth"
    torch.save(squeezenet1_1().state_dict(), path)
    return path


def cnn(weights, **more):
    return TorchvisionCNN("squeezenet1_1", str(weights), **{"image_size": 64, **more})


def test_what_the_tokens_do_not_depend_on_does_not_matter(weights, tmp_path):
    expected = cnn(weights).fingerprint()
    assert cnn(weights, trainable=False).fingerprint() == expected
    assert cnn(weights, augment=True, pooling=MaxPooling()).fingerprint() == expected
    assert cnn(shutil.copy(weights, tmp_path / "elsewhere.pth")).fingerprint() == expected
    trained = cnn(weights)
    trained.network.to(memory_format=torch.contiguous_format)
    assert trained.train().fingerprint() == expected


def test_what_they_depend_on_does(weights):
    encoder = cnn(weights)
    expected = encoder.fingerprint()
    assert cnn(weights, image_size=96).fingerprint()["transform"] != expected["transform"]
    with torch.no_grad():
        next(encoder.network.parameters())[0] += 1
    assert encoder.fingerprint()["tensors"] != expected["tensors"]
    other = copy.deepcopy(cnn(weights))
    other._normalise_by([0.5] * 3, [0.5] * 3)
    assert other.fingerprint()["normalisation"] != expected["normalisation"]


def test_defaults_count_as_if_they_were_given(weights):
    left, given = TorchvisionCNN("squeezenet1_1"), TorchvisionCNN("squeezenet1_1", image_size=224)
    assert left.fingerprint()["arguments"] == given.fingerprint()["arguments"]


def test_survives_json_and_a_checkpoint(weights):
    encoder = cnn(weights)
    expected = encoder.fingerprint()
    assert json.loads(json.dumps(expected)) == expected
    parts, state = to_config(encoder), encoder.state_dict()
    weights.unlink()
    with skip_pretrained():
        again = from_config(parts)
    again.load_state_dict(state)
    assert again.fingerprint() == expected


def test_a_model_of_transformers_may_move(folders, tmp_path):
    here = PretrainedVision(folders("vit"))
    there = PretrainedVision(str(shutil.copytree(folders("vit"), tmp_path / "moved")))
    assert here.fingerprint() == there.fingerprint()
    assert PretrainedVision(folders("dinov2")).fingerprint() != here.fingerprint()


def test_every_tensor_counts_with_its_name_and_shape():
    seen = {tensors_sha256(nn.Linear(1, 4, bias=False)) for _ in range(3)}
    ones, column = nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False)
    for network in (ones, column):
        nn.init.ones_(network.weight)
        seen.add(tensors_sha256(network))
    seen |= {tensors_sha256(nn.Sequential(ones)), tensors_sha256(ones.double())}
    assert len(seen) == 7


def test_regions_of_any_encoder_will_do_where_there_is_no_trunk():
    assert RegionFeatures(4).fingerprint() is None
