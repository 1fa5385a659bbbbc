from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from itm_lightning.encoders import PretrainedText, PretrainedVision
from itm_lightning.errors import InputError
from itm_lightning.part import skip_pretrained
from tests.encoders.conftest import TEXTS

VISION = {"vit": 5, "dinov2": 5, "clip": 5, "siglip": 4}  # tokens of a 32×32 photo
TEXT = ["bert", "clip", "siglip", "t5"]


def oracle(folder, half):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    return getattr(model, half, model)


@pytest.mark.parametrize("name", VISION)
class TestVision:
    def test_tokens_are_the_last_hidden_state(self, name, folders):
        encoder = PretrainedVision(folders(name)).eval()
        pixels = torch.rand(2, 3, 32, 32)
        states = oracle(folders(name), "vision_model")(pixel_values=pixels).last_hidden_state
        assert states.shape == (2, VISION[name], 16)
        torch.testing.assert_close(encoder(pixels).tokens, states)

    def test_pixels_are_those_of_the_image_processor(self, name, folders, image):
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(folders(name))
        encoder = PretrainedVision(folders(name))
        transform = encoder.transform(train=False)
        same_size = image.resize((32, 32))
        if name != "dinov2":  # there the photo is resized before the crop
            expected = processor(same_size, return_tensors="pt").pixel_values[0]
            torch.testing.assert_close(
                encoder.normalise(transform(same_size)), expected, rtol=0, atol=1e-5
            )
        expected = processor(image, return_tensors="pt").pixel_values[0]
        assert transform(image).shape == expected.shape == (3, 32, 32)
        # libraries resize a little differently: a level or two of 255, over a deviation near .25
        assert (encoder.normalise(transform(image)) - expected).abs().mean() < 0.03

    def test_rebuilt_without_its_folder(self, name, folder_copy):
        import shutil

        folder = folder_copy(name)
        encoder = PretrainedVision(folder).eval()
        shutil.rmtree(folder)
        with skip_pretrained():
            again = PretrainedVision(folder)
        again.load_extra_state(encoder.extra_state())
        again.load_state_dict(encoder.state_dict())
        pixels = torch.rand(2, 3, 32, 32)
        assert torch.equal(again.eval()(pixels).tokens, encoder(pixels).tokens)


def test_convolutional_grid_becomes_tokens(folders):
    encoder = PretrainedVision(folders("resnet")).eval()
    pixels = torch.rand(1, 3, 64, 64)
    grid = oracle(folders("resnet"), "vision_model")(pixel_values=pixels).last_hidden_state
    assert grid.shape[1] == encoder.dim == 12
    tokens = encoder(pixels).tokens
    side = grid.shape[2]
    torch.testing.assert_close(tokens[0, side + 1], grid[0, :, 1, 1])


def test_without_image_processor_images_are_imagenets(folders, image, caplog):
    encoder = PretrainedVision(folders("resnet"))
    assert "no image processor" in caplog.text
    pixels = encoder.transform(train=False)(image.resize((224, 224)))
    black = encoder.transform(train=False)(image.resize((224, 224)).point(lambda _: 0))
    assert pixels.shape == (3, 224, 224)
    torch.testing.assert_close(encoder.normalise(black)[0, 0, 0], torch.tensor(-0.485 / 0.229))


PROCESSORS = {
    "crop_pct": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}}),
    "crop_pct, warped": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "crop_pct, a share of a half": (
        "PoolFormerImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "crop_pct": 0.5},
    ),
    "do_rescale": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_rescale": False}),
    "rescale_factor": (
        "ViTImageProcessor",
        {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5},
    ),
    "do_normalize": (
        "ViTImageProcessor",
        {"size": {"height": 32, "width": 32}, "do_normalize": False, "rescale_factor": 0.5},
    ),
    "do_resize": (
        "CLIPImageProcessor",
        {"do_resize": False, "crop_size": {"height": 32, "width": 32}},
    ),
    "rescale_offset": (
        "EfficientNetImageProcessor",
        {"size": {"height": 32, "width": 32}, "rescale_offset": True, "include_top": False},
    ),
    "include_top": ("EfficientNetImageProcessor", {"size": {"height": 32, "width": 32}}),
    "do_flip_channel_order": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
}
NOT_HONOURED = {
    "max_num_patches": ("Siglip2ImageProcessor", {}),
    "size": ("DetrImageProcessor", {"do_pad": False}),
    "do_pad": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_pad": True}),
    "do_resize": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_resize": False}),
}


def seen_by_network(encoder, image):
    """What reaches the network of an image."""
    given = []
    handle = encoder.network.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["pixel_values"]), with_kwargs=True
    )
    encoder(encoder.transform(train=False)(image)[None])
    handle.remove()
    return given[0][0]


@pytest.mark.parametrize("kind", PROCESSORS)
def test_all_that_an_image_processor_says_is_done(kind, folder_copy):
    import transformers

    folder = folder_copy("resnet")
    name, arguments = PROCESSORS[kind]
    processor = getattr(transformers, name)(**arguments)
    processor.save_pretrained(folder)
    smooth = np.add.outer(np.arange(72), np.arange(96))[..., None] * (1.0, 0.6, 0.2)
    image = Image.fromarray(smooth.astype(np.uint8))
    expected = processor(image, return_tensors="pt").pixel_values[0]
    seen = seen_by_network(PretrainedVision(folder).eval(), image)
    assert seen.shape == expected.shape
    assert (seen - expected).abs().mean() < 0.02 * (expected.max() - expected.min())


@pytest.mark.parametrize("key", NOT_HONOURED)
def test_what_an_image_processor_says_and_is_not_done_is_named(key, folder_copy):
    import transformers

    folder = folder_copy("resnet")
    name, arguments = NOT_HONOURED[key]
    getattr(transformers, name)(**arguments).save_pretrained(folder)
    with pytest.raises(InputError, match=f"the image processor's {key}, .* is not supported"):
        PretrainedVision(folder)


@pytest.mark.parametrize("name", ["bert", "clip", "t5"])
def test_a_folder_without_a_tokeniser_is_refused(name, folder_copy):
    folder = folder_copy(name)
    for path in Path(folder).glob("*token*"):
        path.unlink()
    with pytest.raises(InputError, match="has no tokeniser"):
        PretrainedText(folder)


@pytest.mark.parametrize("name", TEXT)
class TestText:
    def test_tokens_are_the_last_hidden_state(self, name, folders):
        """Caption by caption, as transformers' own documentation runs them."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folders(name))
        model = oracle(folders(name), "text_model")
        model = model.get_encoder() if name == "t5" else model
        features = PretrainedText(folders(name)).eval()(TEXTS)
        for row, text in enumerate(TEXTS):
            # the longest caption has 13 tokens, BERT here 12 positions
            cut = {"truncation": True, "max_length": 12} if name == "bert" else {}
            ids = tokenizer(text, return_tensors="pt", **cut).input_ids
            length = ids.shape[1]
            assert features.mask[row].tolist()[:length] == [True] * length
            assert not features.mask[row, length:].any()
            if name == "siglip":  # reads padding up to the full length, and attends to it
                ids = torch.nn.functional.pad(ids, (0, 16 - length), value=tokenizer.pad_token_id)
            states = model(input_ids=ids).last_hidden_state[0, :length]
            torch.testing.assert_close(features.tokens[row, :length], states, rtol=1e-4, atol=1e-5)

    def test_rebuilt_without_its_folder(self, name, folder_copy):
        import shutil

        folder = folder_copy(name)
        encoder = PretrainedText(folder).eval()
        expected = encoder(TEXTS)
        shutil.rmtree(folder)
        with skip_pretrained():
            again = PretrainedText(folder)
        again.load_extra_state(encoder.extra_state())
        again.load_state_dict(encoder.state_dict())
        features = again.eval()(TEXTS)
        assert torch.equal(features.tokens, expected.tokens)
        assert torch.equal(features.mask, expected.mask)


def test_long_texts_are_cut(folders):
    long = " ".join(["dog"] * 50)
    assert PretrainedText(folders("bert"))([long]).tokens.shape[1] == 12  # its positions
    assert PretrainedText(folders("bert"), max_length=5)([long, "a"]).tokens.shape[1] == 5
    assert PretrainedText(folders("siglip"))(["a"]).tokens.shape[1] == 16  # its training's length
    with pytest.raises(InputError, match="reads at most 12 tokens; max_length is 13"):
        PretrainedText(folders("bert"), max_length=13)


def test_each_text_is_tokenised_once(folders, monkeypatch):
    encoder = PretrainedText(folders("bert"))
    seen = []
    tokeniser = encoder._tokeniser
    monkeypatch.setattr(
        encoder, "_tokeniser", lambda texts, **k: seen.extend(texts) or tokeniser(texts)
    )
    encoder._rows(["a dog", "a ball", "a dog"])
    encoder._rows(["a ball", "two men"])
    assert seen == ["a dog", "a ball", "two men"]


def test_half_precision_files_are_trained_in_full(folder_copy):
    from transformers import AutoModel

    folder = folder_copy("bert")
    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    encoder = PretrainedText(folder)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    with skip_pretrained():
        again = PretrainedText(folder)
    again.load_extra_state(encoder.extra_state())
    assert {p.dtype for p in again.parameters()} == {torch.float32}


def test_restoring_what_is_there_keeps_it(folders):
    for encoder in (PretrainedText(folders("bert")), PretrainedVision(folders("vit"))):
        network = encoder.network
        encoder.load_extra_state(encoder.extra_state())
        assert encoder.network is network


def test_missing_or_unfit_models_are_one_line(tmp_path, folders, folder_copy):
    broken = folder_copy("vit")
    (tmp_path / "vit" / "model.safetensors").write_bytes(b"nothing")
    for cls, name, message in [
        (PretrainedVision, str(tmp_path / "none"), "save_pretrained"),
        (PretrainedText, str(tmp_path / "none"), "save_pretrained"),
        (PretrainedVision, "nobody/nothing", "'nobody/nothing' .* folder"),
        (PretrainedText, "nobody/nothing", "'nobody/nothing' .* folder"),
        (PretrainedVision, broken, "cannot be loaded"),
        (PretrainedVision, folders("bert"), "cannot encode images"),
        (PretrainedText, folders("vit"), "cannot be loaded"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            cls(name)
        assert "\n" not in str(error.value)


def test_compiles(folders):
    vision, text = PretrainedVision(folders("vit")).eval(), PretrainedText(folders("bert")).eval()
    for encoder, given in ((vision, torch.rand(2, 3, 32, 32)), (text, TEXTS)):
        expected = encoder(given)
        encoder.compile(backend="eager")
        torch.testing.assert_close(encoder(given).pooled, expected.pooled, rtol=1e-4, atol=1e-5)
