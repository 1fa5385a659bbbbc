"""Parts that do not fit each other are refused before training, and both are named."""

import sys

import pytest
import torch

PARTS = """
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.similarity import Cosine
from itm_lightning.types import Features


class PooledText(RecurrentText):
    def forward(self, captions):
        return Features.from_pooled(super().forward(captions).pooled)


class WordsOnly(RecurrentText):
    def forward(self, captions):
        words = super().forward(captions)
        return Features(words.tokens, words.mask, None)


class PooledPhotos(TorchvisionCNN):
    def forward(self, photos):
        return Features.from_pooled(super().forward(photos).pooled)


class WithDefault(Cosine):
    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
"""


@pytest.fixture(autouse=True)
def _own_parts(tmp_path, monkeypatch):
    (tmp_path / "misfits.py").write_text(PARTS)
    yield
    sys.modules.pop("misfits", None)


def headed(config, name, **arguments):
    config["model"]["similarity"] = {"class_path": name, "init_args": arguments}
    return config


@pytest.mark.parametrize(
    ("name", "arguments", "head"),
    [
        ("Bilinear", {"dim": 7}, "Bilinear"),
        ("misfits.WithDefault", {"dim": 7}, "WithDefault"),
        (
            "Ensemble",
            {"heads": [{"class_path": "Cosine"}, {"class_path": "Mlp", "init_args": {"dim": 7}}]},
            "Mlp",
        ),
    ],
)
def test_a_dim_that_is_not_the_models_is_refused(refuse, tiny_config, name, arguments, head):
    error = refuse("fit", "--config", headed(tiny_config, name, **arguments))
    assert f"{head} has dim 7, but the Matcher has dim 16" in error
    assert f"give {head} dim 16, or the Matcher dim 7" in error


def test_a_flag_is_refused_like_the_yaml(refuse, tiny_config):
    headed(tiny_config, "Bilinear")
    flag = "--model.similarity.init_args.dim=7"
    assert "Bilinear has dim 7, but the Matcher has dim 16" in refuse(
        "fit", "--config", tiny_config, flag
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Bilinear", {}), ("Bilinear", {"dim": 24}), ("misfits.WithDefault", {})],
)
def test_a_dim_left_out_follows_the_models(run, tiny_config, name, arguments):
    tiny_config["trainer"]["limit_train_batches"] = 1
    config = headed(tiny_config, name, **arguments)
    folder = run("fit", "--config", config, "--model.dim", "24")
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    made = checkpoint["matcher"]["config"]
    assert (made["dim"], made["similarity"]["init_args"]["dim"]) == (24, 24)


@pytest.mark.parametrize(
    ("kind", "encoder", "head", "read"),
    [
        ("text_encoder", "PooledText", "CrossAttention", "tokens"),
        ("text_encoder", "WordsOnly", "Cosine", "pooled vectors"),
        ("image_encoder", "PooledPhotos", "CrossAttention", "tokens"),
    ],
)
def test_an_encoder_without_what_the_head_reads_is_refused(
    refuse, tiny_config, kind, encoder, head, read
):
    tiny_config["model"][kind]["class_path"] = f"misfits.{encoder}"
    error = refuse("fit", "--config", headed(tiny_config, head))
    assert f"{encoder} does not give what the head reads: {head} reads {read}" in error
    assert ": use an encoder that gives" in error
