import pytest
import torch

from itm_lightning.encoders import RegionFeatures, TorchvisionCNN
from itm_lightning.encoders.base import grid_of


@pytest.mark.parametrize(
    ("tokens", "height", "width", "expected"),
    [
        (49, 224, 224, (7, 7, 0)),  # a CNN
        (50, 224, 224, (7, 7, 1)),  # ViT-B/32: class token and patches
        (197, 224, 224, (14, 14, 1)),
        (261, 224, 224, (16, 16, 5)),  # DINOv2 with four registers
        (5, 32, 32, (2, 2, 1)),
        (1, 64, 64, (1, 1, 0)),
        (6, 64, 96, (2, 3, 0)),
        (7, 96, 64, (3, 2, 1)),
        (36, 50, 47, None),
        (2, 64, 96, None),
    ],
)
def test_grid(tokens, height, width, expected):
    assert grid_of(tokens, height, width) == expected


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vit_b_32"])
def test_tokens_lie_row_by_row_where_the_grid_says(name):
    """Lighting one cell of an image changes its own token most, or one beside it."""
    torch.manual_seed(0)
    encoder = TorchvisionCNN(name, image_size=224).eval()
    rows, columns, first = encoder.grid()
    assert (rows, columns) == (7, 7)
    black = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    with torch.no_grad():
        before = encoder.trunk(black)[0]
        for row, column in [(1, 5), (5, 1)]:
            image = black.clone()
            image[..., 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 255
            change = (encoder.trunk(image)[0] - before).norm(dim=1)
            found = divmod(int(change[first:].argmax()), columns)
            assert max(abs(found[0] - row), abs(found[1] - column)) <= 1


def test_regions_have_no_grid():
    assert RegionFeatures(dim=4).grid() is None
