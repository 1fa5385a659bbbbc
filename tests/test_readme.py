"""The README's Python runs as written."""

import re

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from itm_lightning import EnsembleMatcher, Matcher
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from tests.conftest import REPO

README = (REPO / "README.md").read_text()


def block(containing):
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if containing in b]
    return code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the README names."""
    monkeypatch.chdir(tmp_path)
    for name, colour in (("a.jpg", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (50, 40), colour).save(name)
    for seed, name in enumerate(("best.ckpt", "other.ckpt")):
        torch.manual_seed(seed)
        text_encoder = RecurrentText(hidden=4, word_dim=4)
        text_encoder.learn_vocabulary(["two dogs on grass"])
        matcher = Matcher(TorchvisionCNN("squeezenet1_1", image_size=64), text_encoder, dim=8)
        matcher.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        checkpoint = {"state_dict": matcher.state_dict()}
        matcher.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, name)


def test_a_loaded_checkpoint_gives_scores_in_three_lines(folder):
    names = {}
    exec(block("matcher.encode_images"), names)
    scores = names["scores"]
    assert scores.shape == (2, 1)
    expected = Matcher.load_from_checkpoint("best.ckpt")(["a.jpg", "b.jpg"], ["two dogs on grass"])
    torch.testing.assert_close(scores, expected)


def test_an_ensemble_is_a_matcher_made_of_matchers(folder):
    names = {}
    exec(block("EnsembleMatcher"), names)
    assert isinstance(names["ensemble"], EnsembleMatcher)
    each = [
        Matcher.load_from_checkpoint(name)(["a.jpg"], ["two dogs on grass"])
        for name in ("best.ckpt", "other.ckpt")
    ]
    ensemble = names["ensemble"]
    images, texts = ensemble.encode_images(["a.jpg"]), ensemble.encode_texts("two dogs on grass")
    torch.testing.assert_close(ensemble.similarity(images, texts), (2 * each[0] + each[1]) / 3)
