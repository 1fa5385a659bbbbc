"""TimmVision: layouts of grids, the network's own size and normalisation, weights from a file."""

import pytest
import torch

from itm_lightning.encoders import TimmVision
from itm_lightning.encoders.base import Grid
from itm_lightning.errors import InputError

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("resnet10t", 96, Grid(3, 3, 0)),
        ("vit_tiny_patch16_224", 64, Grid(4, 4, 1)),  # one size by default, and a class token
        ("test_vit4", None, Grid(10, 10, 1)),
        ("swin_tiny_patch4_window7_224", None, Grid(7, 7, 0)),  # channels last
    ],
)
def test_tokens_are_the_places_of_the_grid(name, size, grid):
    encoder = TimmVision(name, image_size=size)
    assert encoder.grid() == grid
    network = encoder.network.eval()
    pixels = torch.randn(2, 3, *encoder._size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens, features = encoder.trunk(pixels), network.forward_features(pixels)
    assert tokens.shape == (2, grid.first + grid.rows * grid.columns, encoder.dim)
    # the cell in row 1, column 2, wherever the network keeps its channels
    if features.ndim == 3:
        expected = features[:, 1 + grid.columns + 2]
    elif features.shape[1] == encoder.dim:
        expected = features[:, :, 1, 2]
    else:
        expected = features[:, 1, 2]
    assert torch.equal(tokens[:, grid.first + grid.columns + 2], expected)


def test_size_and_normalisation_are_the_networks_own():
    encoder = TimmVision("tf_efficientnet_lite0")
    settings = timm.data.resolve_model_data_config(encoder.network)
    pixels = encoder.pixels(torch.full((3, 50, 70), 255, dtype=torch.uint8))
    assert pixels.shape[-2:] == tuple(settings["input_size"][1:])
    white = [(1 - m) / s for m, s in zip(settings["mean"], settings["std"], strict=True)]
    torch.testing.assert_close(encoder.normalise(pixels)[0, :, 0, 0], torch.tensor(white))


def test_weights_come_from_a_file_with_or_without_the_head(tmp_path):
    whole = timm.create_model("mobilenetv3_small_050")
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    encoder = TimmVision("mobilenetv3_small_050", str(tmp_path / "whole.pth"), image_size=64)
    torch.save(encoder.network.state_dict(), tmp_path / "trunk.pth")
    again = TimmVision("mobilenetv3_small_050", str(tmp_path / "trunk.pth"), image_size=64)
    pixels = torch.randn(1, 3, 64, 64)
    encoder.eval(), again.eval(), whole.eval()
    with torch.no_grad():
        expected = whole.forward_features(pixels).flatten(2).mT
        assert torch.equal(encoder.trunk(pixels), expected)
        assert torch.equal(again.trunk(pixels), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet18x"}, r"timm has no network 'resnet18x' \(did you mean resnet18"),
        ({"name": "resnet10t", "weights": "absent.pth"}, "absent.pth"),
        ({"name": "resnet10t", "weights": "DEFAULT"}, "give the path of a state dict instead"),
        ({"name": "coatnet_0_224", "image_size": 50}, "leave image_size out"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        TimmVision(**arguments)
    assert "\n" not in str(caught.value)
