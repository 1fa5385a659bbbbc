"""What holds for every registered encoder."""

import io
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from itm_lightning.encoders import MLPProjection
from itm_lightning.part import from_config, skip_pretrained, to_config
from itm_lightning.pooling import AttentionPooling, MaxPooling
from itm_lightning.registry import get, list_registered
from itm_lightning.types import Features
from tests.encoders.conftest import TEXTS

# how to make a small one of each; an encoder without an example fails its tests
EXAMPLES = {
    "TorchvisionCNN": lambda folder, **more: {
        "name": "mnasnet0_5",
        "image_size": 64,
        **more,
    },
    "PatchCNN": lambda folder, **more: {
        "name": "mnasnet0_5",
        "image_size": 64,
        "patches": 2,
        **more,
    },
    "TimmVision": lambda folder, **more: {
        "name": "mobilenetv3_small_050",
        "image_size": 64,
        **more,
    },
    "PretrainedVision": lambda folder, **more: {"name": folder("vit"), **more},
    "RegionFeatures": lambda folder, **more: {"dim": 6, **more},
    "PretrainedText": lambda folder, **more: {"name": folder("bert"), **more},
    "RecurrentText": lambda folder, **more: {"hidden": 8, "word_dim": 6, **more},
    "WordPieces": lambda folder, **more: {"name": folder("bert"), "dim": 16, **more},
    "BagOfWords": lambda folder, **more: {"dim": 16, **more},
}
VECTORS = ["ImageVectors", "TextVectors"]  # no tokens and no trunk: see test_vectors.py
KINDS = {
    name: kind
    for kind in ("image_encoder", "text_encoder")
    for name in list_registered(kind)
    if name not in VECTORS
}
WITHOUT_TRUNK = ["RegionFeatures"]  # they read regions, and pixels not at all
TEXT_ENCODERS = [name for name, kind in KINDS.items() if kind == "text_encoder"]
IMAGE_ENCODERS = [name for name in KINDS if name not in [*TEXT_ENCODERS, *WITHOUT_TRUNK]]
WITHOUT_TOKENS = ["BagOfWords"]  # they give a pooled vector alone, and have no weights
WITH_PROJECTION = ["RegionFeatures", "PretrainedText"]  # of their own, before the pooling
WITH_TOKENS = [name for name in KINDS if name not in WITHOUT_TOKENS]


def build(name, folder, **more):
    encoder = get(KINDS[name], name)(**EXAMPLES[name](folder, **more))
    if name in TEXT_ENCODERS:
        encoder.learn_vocabulary(TEXTS[:3])
    return encoder


def inputs(encoder, name):
    if name in TEXT_ENCODERS:
        return TEXTS
    if name in WITHOUT_TRUNK:
        mask = torch.tensor([[True, True, True], [True, False, False]])
        regions = torch.randn(2, 3, encoder.trunk_dim, generator=torch.Generator().manual_seed(0))
        return Features(regions, mask, None)
    transform = encoder.transform(train=False)
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    return torch.stack([transform(Image.fromarray(pixels)) for pixels in noise])


def check_equal(one: Features, other: Features):
    for name in ("tokens", "mask", "pooled"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        assert left is None or torch.equal(left, right)


@pytest.mark.parametrize("name", WITH_TOKENS)
class TestEveryEncoderOfTokens:
    def test_gives_features_as_wide_as_it_says(self, name, folders):
        encoder = build(name, folders).eval()
        given = inputs(encoder, name)
        features = encoder(given)
        rows, length, dim = features.tokens.shape
        assert (rows, dim) == (len(given), encoder.dim)
        assert features.mask.shape == (rows, length)
        assert features.mask.dtype == torch.bool
        assert features.mask.any(dim=1).all()
        assert features.pooled.shape == (rows, dim)
        assert features.tokens.dtype == features.pooled.dtype == torch.float32
        expected = encoder.pooling(features.tokens, features.mask)
        torch.testing.assert_close(features.pooled, expected)

    def test_pooling_is_built_for_its_width(self, name, folders):
        encoder = build(name, folders, pooling=AttentionPooling(hidden=3)).eval()
        assert encoder.pooling.scorer[0].in_features == encoder.dim
        features = encoder(inputs(encoder, name))
        assert features.pooled.shape == (len(features.tokens), encoder.dim)

    def test_every_trainable_parameter_gets_a_gradient(self, name, folders):
        """As distributed training demands."""
        encoder = build(name, folders, pooling=AttentionPooling(hidden=3))
        given = inputs(encoder, name)
        encoder(given).pooled.square().sum().backward()
        trainable = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
        assert [n for n, p in trainable.items() if p.grad is None] == []
        learning = "pooling." if name in WITHOUT_TRUNK else "network."
        assert any(n.startswith(learning) for n in trainable)


@pytest.mark.parametrize("name", KINDS)
class TestEveryEncoder:
    def test_checkpoint_is_enough_to_rebuild_it(self, name, folders, tmp_path):
        """The folder is gone, and only ``weights_only`` reads what was kept."""
        gone = []

        def own_folder(model):
            gone.append(tmp_path / model)
            return str(shutil.copytree(folders(model), gone[-1]))

        parts = {"pooling": MaxPooling()} if name in WITH_TOKENS else {}
        if name in WITH_PROJECTION:
            parts["projection"] = MLPProjection(dim=4, hidden=3, batch_norm=True, skip=True)
        encoder = build(name, own_folder, **parts).eval()
        given = inputs(encoder, name)
        expected = encoder(given)
        kept = io.BytesIO()
        parts = {
            "recipe": to_config(encoder),
            "extra_state": encoder.extra_state(),
            "state": encoder.state_dict(),
        }
        torch.save(parts, kept)
        for folder in gone:
            shutil.rmtree(folder)

        parts = torch.load(io.BytesIO(kept.getvalue()), weights_only=True)
        with skip_pretrained():
            again = from_config(parts["recipe"])
            again.load_extra_state(parts["extra_state"])
        again.load_state_dict(parts["state"])
        assert type(again) is type(encoder)
        assert again.dim == encoder.dim
        assert again.extra_state() == encoder.extra_state()
        check_equal(again.eval()(given), expected)
        check_equal(again(inputs(again, name)), expected)

    def test_survives_pickling(self, name, folders):
        encoder = build(name, folders).eval()
        given = inputs(encoder, name)
        check_equal(pickle.loads(pickle.dumps(encoder))(given), encoder(given))


@pytest.mark.parametrize(
    "name", [n for n in WITH_TOKENS if n not in ["RecurrentText", "WordPieces", *WITHOUT_TRUNK]]
)
class TestFrozenTrunk:
    def test_neither_learns_nor_leaves_evaluation(self, name, folders):
        encoder = build(name, folders, trainable=False, pooling=AttentionPooling())
        assert encoder.frozen
        for mode in (True, False, True):
            encoder.train(mode)
            assert encoder.training is mode
            assert encoder.pooling.training is mode
            assert not any(module.training for module in encoder.network.modules())
        assert not any(p.requires_grad for p in encoder.network.parameters())
        features = encoder(inputs(encoder, name))
        assert not features.tokens.requires_grad
        assert features.pooled.requires_grad  # the pooling learns nevertheless

    def test_trainable_is_the_default(self, name, folders):
        encoder = build(name, folders)
        assert not encoder.frozen
        assert encoder.train().network.training
        assert encoder(inputs(encoder, name)).tokens.requires_grad


@pytest.mark.parametrize("name", IMAGE_ENCODERS)
class TestEveryImageEncoder:
    def test_kept_tokens_stand_for_the_images(self, name, folders):
        encoder = build(name, folders, trainable=False, pooling=MaxPooling())
        pixels = inputs(encoder, name)
        expected = encoder(pixels)
        kept = Features(expected.tokens.half(), expected.mask, None)
        features = encoder(kept)
        assert features.tokens.dtype == torch.float32
        torch.testing.assert_close(features.pooled, expected.pooled, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(encoder.trunk(pixels), expected.tokens)

    def test_kept_mask_is_heeded(self, name, folders):
        encoder = build(name, folders, trainable=False)
        tokens = torch.randn(2, 3, encoder.dim)
        mask = torch.tensor([[True, False, False], [True, True, True]])
        features = encoder(Features(tokens, mask, None))
        torch.testing.assert_close(features.pooled[0], tokens[0, 0])
        assert torch.equal(features.mask, mask)

    def test_transform(self, name, folders, image):
        encoder = build(name, folders, augment=True)
        train, evaluation = encoder.transform(train=True), encoder.transform(train=False)
        pixels = evaluation(image)
        assert pixels.dtype == torch.uint8
        assert pixels.shape[0] == 3
        assert torch.equal(pixels, evaluation(image))
        augmented = [train(image) for _ in range(4)]
        assert all(one.shape == pixels.shape for one in augmented)
        assert not torch.equal(augmented[0], augmented[1])
        assert torch.equal(pickle.loads(pickle.dumps(evaluation))(image), pixels)

    def test_without_augmentation_training_sees_the_same_pixels(self, name, folders, image):
        encoder = build(name, folders)
        assert torch.equal(encoder.transform(True)(image), encoder.transform(False)(image))


@pytest.mark.parametrize("name", WITHOUT_TOKENS)
def test_without_tokens_a_vector_is_as_wide_as_it_says(name, folders):
    encoder = build(name, folders).eval()
    features = encoder(TEXTS)
    assert features.tokens is None
    assert features.mask is None
    assert features.pooled.shape == (len(TEXTS), encoder.dim)
    assert features.pooled.dtype == torch.float32
    assert encoder.device == features.pooled.device


@pytest.mark.parametrize("name", TEXT_ENCODERS)
class TestEveryTextEncoder:
    def test_padding_changes_nothing(self, name, folders):
        encoder = build(name, folders).eval()
        together = encoder(TEXTS)
        for row, text in enumerate(TEXTS):
            alone = encoder([text])
            torch.testing.assert_close(together.pooled[row], alone.pooled[0], rtol=1e-5, atol=1e-5)
            if name in WITHOUT_TOKENS:
                continue
            real = together.mask[row]
            assert int(real.sum()) == int(alone.mask.sum())
            torch.testing.assert_close(
                together.tokens[row, real], alone.tokens[alone.mask], rtol=1e-5, atol=1e-5
            )

    def test_order_of_the_texts_is_kept(self, name, folders):
        encoder = build(name, folders).eval()
        forth, back = encoder(TEXTS), encoder(TEXTS[::-1])
        torch.testing.assert_close(back.pooled.flip(0), forth.pooled, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(forth.pooled[0], forth.pooled[2])


@pytest.mark.parametrize("name", TEXT_ENCODERS)
class TestTheWordsOfEveryTextEncoder:
    def test_words_are_the_strings_behind_its_tokens(self, name, folders):
        encoder = build(name, folders).eval()
        texts = ["a dog", "", "a red ball, a red ball", TEXTS[0] * 30]
        words = encoder.words(texts)
        ids, mask = encoder.token_ids(texts)
        assert ids.shape == mask.shape
        assert [len(tokens) for tokens in words] == mask.sum(dim=1).tolist()
        features = encoder(texts)
        if features.mask is not None:
            assert [len(tokens) for tokens in words] == features.mask.sum(dim=1).tolist()
        assert [token.text for token in words[0] if not token.special] == ["a", "dog"]
        assert all(token.special for token in words[1])

    def test_noise_of_training_does_not_reach_token_ids(self, name, folders):
        encoder = build(name, folders).train()
        first, second = (encoder.token_ids(TEXTS)[0] for _ in range(2))
        assert first.equal(second)
