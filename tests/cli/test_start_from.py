"""``--start_from``: a fit begins with the weights of another one's checkpoint."""

import shutil

import numpy as np
import pytest
import torch

from itm_lightning import Matcher


@pytest.fixture
def config(tiny_config, tmp_path):
    for split, images in (("train", 8), ("val", 4)):
        regions = np.random.default_rng(images).random((images, 3, 6), dtype=np.float32)
        np.save(tmp_path / f"{split}_ims.npy", regions)
        (tmp_path / f"{split}_caps.txt").write_text("a dog\na red ball\n" * images)
    source = {"class_path": "Precomputed", "init_args": {"root": str(tmp_path)}}
    encoder = {"class_path": "RegionFeatures", "init_args": {"dim": 6}}
    tiny_config["data"]["source"] = source
    tiny_config["model"]["image_encoder"] = encoder
    return tiny_config


def weights(folder):
    matcher = Matcher.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    return matcher.state_dict(), matcher.text_encoder.vocabulary.words


def test_a_second_stage_starts_from_the_first(run, refuse, config):
    caption_loss = {"class_path": "CaptionLoss", "init_args": {"hidden": 8, "word_dim": 4}}
    both = {"objectives": [{"class_path": "InfoNCE"}, caption_loss], "weights": [1.0, 0.1]}
    config["model"]["objective"] = {"class_path": "WeightedSum", "init_args": both}
    first = run("fit", "--config", config)
    checkpoint = first / "checkpoints" / "last.ckpt"
    # another seed, an objective without words; steps of 0 keep what it started from
    flags = ["--seed_everything=7", "--model.objective=Triplet"]
    flags += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0"]
    second = run("fit", "--config", config, f"--start_from={checkpoint}", *flags)
    (before, words), (after, words_after) = weights(first), weights(second)
    assert words == words_after
    parts = [name for name in before if not name.startswith("objective.")]
    assert parts
    assert all(torch.equal(before[name], after[name]) for name in parts)

    checkpoint = shutil.copy(checkpoint, first.parents[1] / "first.ckpt")
    shutil.rmtree(first.parent)
    line = refuse("fit", "--config", config, f"--start_from={checkpoint}", "--model.dim=8")
    assert "does not fit the network: 4 of another shape (image_projection.linear" in line
    assert "missing.ckpt: there is no such file" in refuse(
        "fit", "--config", config, "--start_from=missing.ckpt"
    )
