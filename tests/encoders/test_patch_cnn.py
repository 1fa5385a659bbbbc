import pytest
import torch

from itm_lightning.encoders import PatchCNN, TorchvisionCNN
from itm_lightning.encoders.base import Grid
from itm_lightning.errors import InputError


@torch.no_grad()
def test_each_patch_goes_through_the_network_by_itself():
    encoder = PatchCNN("squeezenet1_1", image_size=96, patches=3).eval()
    whole = TorchvisionCNN("squeezenet1_1", image_size=32).eval()
    whole.load_state_dict(encoder.state_dict())
    pixels = torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8)
    tokens = encoder(pixels).tokens
    assert tokens.shape == (2, 9, encoder.dim)
    for row in range(3):
        for column in range(3):
            patch = pixels[..., 32 * row : 32 * (row + 1), 32 * column : 32 * (column + 1)]
            torch.testing.assert_close(tokens[:, 3 * row + column], whole(patch).tokens.mean(dim=1))
    assert encoder.grid() == Grid(3, 3, 0)


def test_patches_that_do_not_fill_the_image_are_refused():
    with pytest.raises(InputError, match="image_size is 100 and patches 8; the first must be a"):
        PatchCNN("alexnet", image_size=100)
