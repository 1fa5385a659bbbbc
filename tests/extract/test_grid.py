import pytest

from itm_lightning.extract.plan import grid_of


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
    found = grid_of(tokens, height, width)
    assert (found and (found["rows"], found["columns"], found["first"])) == expected
