"""CLIP and SigLIP in their own joint space: the scores are those of transformers' whole models."""

import shutil

import pytest
import torch
import yaml
from PIL import Image

from itm_lightning import Matcher
from itm_lightning.encoders import NoProjection, PretrainedText, PretrainedVision
from itm_lightning.errors import InputError
from itm_lightning.similarity import ScaledCosine
from tests.conftest import REPO

TEXTS = ["a red ball", "the dog", "a"]


def zero_shot(folder):
    return Matcher(
        PretrainedVision(folder, joint_space=True),
        PretrainedText(folder, joint_space=True),
        ScaledCosine(pretrained=folder),
        image_projection=NoProjection(),
        text_projection=NoProjection(),
    ).eval()


def whole_model(folder):
    """The whole model and the tokeniser, as transformers loads them."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokeniser = transformers.AutoTokenizer.from_pretrained(folder)
    return model, tokeniser


@pytest.fixture(params=["clip", "siglip"])
def folder(request, folder_copy):
    """A tiny model whose temperature and bias are not the initial ones."""
    folder = folder_copy(request.param)
    model, _ = whole_model(folder)
    with torch.no_grad():
        model.logit_scale.fill_(1.3)
        if request.param == "siglip":
            model.logit_bias.fill_(-2.5)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_scores_equal_transformers_own(folder):
    images = [Image.effect_noise((50, 40), 80).convert("RGB"), Image.new("RGB", (32, 60), "red")]
    matcher = zero_shot(folder)
    model, tokeniser = whole_model(folder)
    pixels = matcher.image_encoder.normalise(matcher.image_encoder.pixels(images))
    padding = "max_length" if model.config.model_type == "siglip" else True
    tokens = tokeniser(TEXTS, padding=padding, max_length=16, truncation=True, return_tensors="pt")
    tokens = dict(tokens) if model.config.model_type == "clip" else {"input_ids": tokens.input_ids}
    tokens.pop("token_type_ids", None)
    expected = model(pixel_values=pixels, **tokens).logits_per_image
    torch.testing.assert_close(matcher(images, TEXTS), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_first_token_is_the_pooled_vector_and_words_fit(folder):
    matcher = zero_shot(folder)
    texts = matcher.text_encoder(TEXTS)
    images = matcher.image_encoder(matcher.image_encoder.pixels(Image.new("RGB", (32, 32))))
    for features in (images, texts):
        assert features.tokens[:, 0].equal(features.pooled)
        assert features.tokens.shape[-1] == features.pooled.shape[-1]
    words = matcher.text_encoder.words(TEXTS)
    assert [len(tokens) for tokens in words] == texts.mask.sum(dim=1).tolist()
    assert all(tokens[0] == ("", True) for tokens in words)
    assert matcher.image_encoder.grid().first == images.tokens.shape[1] - 4  # 2 × 2 patches


@torch.no_grad()
def test_it_comes_back_from_a_checkpoint_without_the_folder(folder, tmp_path):
    import pytorch_lightning as pl

    matcher = zero_shot(folder)
    matcher.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    checkpoint = {"state_dict": matcher.state_dict()}
    matcher.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    shutil.rmtree(folder)
    image = Image.effect_noise((50, 40), 80).convert("RGB")
    again = Matcher.load_from_checkpoint(tmp_path / "model.ckpt")
    torch.testing.assert_close(again(image, TEXTS), matcher(image, TEXTS))


@pytest.mark.parametrize(
    ("encoder", "name"), [(PretrainedVision, "vit"), (PretrainedText, "bert")], ids=["vit", "bert"]
)
def test_a_model_of_one_half_has_no_joint_space(encoder, name, folders):
    with pytest.raises(InputError, match="has no joint space: set joint_space: false"):
        encoder(folders(name), joint_space=True)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_config_scores_without_training(kind, folders, tmp_path, monkeypatch):
    """``lightning test --config experiments/zero_shot/….yaml``, of a tiny model and scenes."""
    from itm_lightning.cli import main

    config = yaml.safe_load((REPO / "experiments" / "zero_shot" / f"{kind}.yaml").read_text())
    name = config["model"]["image_encoder"]["init_args"]["name"]
    assert config["model"]["text_encoder"]["init_args"]["name"] == name
    assert config["model"]["similarity"]["init_args"]["pretrained"] == name
    monkeypatch.chdir(tmp_path)
    scenes = {"class_path": "Scenes", "init_args": {"train": 0, "val": 0, "test": 6, "pairs": 0}}
    small = {
        "data": {"source": scenes, "batch_size": 4},
        "trainer": {"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    folder = folders(kind)
    main(
        [
            *("test", "--config", str(REPO / "experiments" / "zero_shot" / f"{kind}.yaml")),
            *("--config", "small.yaml", "--protocol", "Retrieval"),
            *("--model.image_encoder.name", folder, "--model.text_encoder.name", folder),
            *("--model.similarity.pretrained", folder),
        ]
    )
    (metrics,) = tmp_path.glob("runs/*/test_results.json")
    assert '"images": 6' in metrics.read_text()
