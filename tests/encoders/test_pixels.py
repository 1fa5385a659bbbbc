"""Images however they come: paths, PIL images, arrays, tensors, one or many."""

import numpy as np
import pytest
import torch
from PIL import Image

from itm_lightning import Matcher
from itm_lightning.encoders import RecurrentText, RegionFeatures, TorchvisionCNN
from itm_lightning.errors import InputError
from tests.made_up import made_up_features

ARRAY = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoder():
    return TorchvisionCNN("squeezenet1_1", image_size=64).eval()


@pytest.fixture
def image(tmp_path):
    Image.fromarray(ARRAY).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def forms(path):
    return {
        "path": path,
        "text": str(path),
        "PIL": Image.fromarray(ARRAY),
        "array": ARRAY,
        "tensor": torch.from_numpy(ARRAY).permute(2, 0, 1),
    }


@pytest.mark.parametrize("form", ["path", "text", "PIL", "array", "tensor"])
def test_every_form_gives_the_same_pixels(encoder, image, form):
    expected = encoder.transform(train=False)(Image.fromarray(ARRAY))
    assert encoder.pixels(forms(image)[form]).equal(expected[None])


def test_many_may_come_in_several_forms_and_sizes(encoder, image):
    small = Image.fromarray(ARRAY[:20, :20])
    pixels = encoder.pixels([*forms(image).values(), small])
    assert pixels.shape == (6, 3, 64, 64)
    assert all(each.equal(pixels[0]) for each in pixels[1:5])
    assert not pixels[5].equal(pixels[0])


def test_grey_and_transparent_images_become_rgb(encoder):
    grey = Image.fromarray(ARRAY[:, :, 0])
    for image in (grey, ARRAY[:, :, 0], grey.convert("RGBA"), grey.convert("P")):
        red, green, blue = encoder.pixels(image)[0]
        assert red.equal(green)
        assert red.equal(blue)


def test_what_a_loader_made_is_taken_as_it_is(encoder):
    pixels = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert encoder.pixels(pixels) is pixels
    features = made_up_features(2, 3)
    assert RegionFeatures(dim=8).pixels(features) is features


@pytest.mark.parametrize(
    ("images", "what"),
    [
        ("nowhere.jpg", "there is no image file nowhere.jpg"),
        ([], "there are no images"),
        (3.5, "an image is a path.* not float"),
        (ARRAY.astype(float), "an image is a path.* not ndarray of float64"),
    ],
    ids=["missing", "none", "number", "floats"],
)
def test_what_is_no_image_is_refused(encoder, images, what):
    with pytest.raises(InputError, match=what):
        encoder.pixels(images)


def test_a_file_that_does_not_decode_is_named(encoder, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg does not decode"):
        encoder.pixels(tmp_path / "broken.jpg")


def test_three_lines_of_python(encoder, image):
    text_encoder = RecurrentText(hidden=4, word_dim=4)
    text_encoder.learn_vocabulary(["two dogs on grass", "a ring"])
    matcher = Matcher(encoder, text_encoder).eval()
    images = matcher.encode_images([image, Image.fromarray(ARRAY)])
    scores = matcher.similarity(images, matcher.encode_texts("two dogs on grass"))
    assert scores.shape == (2, 1)  # a string is one text, not one a letter
    torch.testing.assert_close(scores[0], scores[1])
    assert matcher(image, ["a ring", "two dogs"]).shape == (1, 2)
