"""What a run leaves behind, and that the next one can use it."""

import csv
import json

import pytest
import torch
import yaml

from itm_lightning import Matcher

SCORES = [
    f"{direction}_{score}"
    for direction in ("i2t", "t2i")
    for score in ("R@1", "R@5", "R@10", "medr", "meanr")
]


def test_fit_leaves_config_metrics_and_checkpoints_and_prints_the_test_table(
    run, tiny_config, capsys
):
    folder = run("fit", "--config", tiny_config)
    assert "test: 12 images, 60 texts" in capsys.readouterr().out

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["similarity"]["class_path"] == "itm_lightning.similarity.Cosine"
    assert config["data"]["batch_size"] == 8

    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("val", "test"):
        six = [metrics[f"{split}/{d}_R@{k}"] for d in ("i2t", "t2i") for k in (1, 5, 10)]
        assert metrics[f"{split}/rsum"] == pytest.approx(sum(six), abs=1e-4)
        assert {f"{split}/{score}" for score in SCORES} <= set(metrics)
        assert 0 <= metrics[f"{split}/pairs_accuracy"] <= 100
    assert metrics["train/loss"] > 0

    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert any(row["val/rsum"] for row in rows)
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_second_run_has_a_folder_of_its_own(run, tiny_config):
    first = run("fit", "--config", tiny_config)
    kept = (first / "metrics.json").read_bytes()
    second = run("fit", "--config", tiny_config)
    assert second != first
    assert (first / "metrics.json").read_bytes() == kept
    assert json.loads((second / "metrics.json").read_text()) == json.loads(kept)  # same seed


def test_a_checkpoint_alone_is_enough_to_test(run, tiny_config):
    fitted = run("fit", "--config", tiny_config)
    tested = run("test", "--ckpt_path", fitted / "checkpoints" / "best.ckpt")
    expected = json.loads((fitted / "metrics.json").read_text())
    for key, value in json.loads((tested / "metrics.json").read_text()).items():
        assert value == expected[key], key


def test_validate_takes_the_newest_best_checkpoint(run, tiny_config):
    fitted = run("fit", "--config", tiny_config)
    validated = run("validate", "--ckpt_path", "best")
    expected = json.loads((fitted / "metrics.json").read_text())["val/rsum"]
    assert json.loads((validated / "metrics.json").read_text())["val/rsum"] == expected


def test_flags_beat_yaml_and_yaml_beats_the_checkpoint(run, tiny_config):
    tiny_config["data"]["batch_size"] = 4
    run("fit", "--config", tiny_config)
    sizes = {}
    for name, args in {
        "checkpoint": [],
        "yaml": ["--config", {"data": {"batch_size": 5}}],
        "flag": ["--config", {"data": {"batch_size": 5}}, "--data.batch_size", "6"],
    }.items():
        folder = run("test", "--ckpt_path", "last", *args)
        sizes[name] = yaml.safe_load((folder / "config.yaml").read_text())["data"]["batch_size"]
    assert sizes == {"checkpoint": 4, "yaml": 5, "flag": 6}


def test_the_checkpoint_is_enough_in_a_fresh_process(run, tiny_config, python, tmp_path):
    folder = run("fit", "--config", tiny_config)
    path = folder / "checkpoints" / "best.ckpt"
    script = """
import sys, torch
from itm_lightning import Matcher
matcher = Matcher.load_from_checkpoint(sys.argv[1])
with torch.no_grad():
    torch.save(matcher(torch.ones(2, 3, 64, 64), ["a red ring", "two things"]), sys.argv[2])
"""
    done = python("-c", script, path, tmp_path / "scores.pt", cwd="/")
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        here = Matcher.load_from_checkpoint(path)(
            torch.ones(2, 3, 64, 64), ["a red ring", "two things"]
        )
    torch.testing.assert_close(torch.load(tmp_path / "scores.pt"), here)


def test_frozen_weights_need_not_be_there_again(run, tiny_config, tmp_path):
    from torchvision.models import squeezenet1_1

    weights = tmp_path / "weights.pth"
    torch.save(squeezenet1_1().state_dict(), weights)
    encoder = tiny_config["model"]["image_encoder"]["init_args"]
    encoder.update(weights=str(weights), trainable=False)
    fitted = run("fit", "--config", tiny_config)
    weights.unlink()
    tested = run("test", "--ckpt_path", "best")
    expected = json.loads((fitted / "metrics.json").read_text())
    found = json.loads((tested / "metrics.json").read_text())
    # the frozen trunk's tokens were kept in half precision for val; test reads the photos
    assert found["test/rsum"] == expected["test/rsum"]
    assert Matcher.load_from_checkpoint(fitted / "checkpoints" / "last.ckpt").image_encoder.frozen


def test_pretrained_encoders_come_back_without_their_folders(run, tiny_config, pretrained_folders):
    vision, text = pretrained_folders
    tiny_config["model"]["image_encoder"] = {
        "class_path": "PretrainedVision",
        "init_args": {"name": str(vision)},
    }
    tiny_config["model"]["text_encoder"] = {
        "class_path": "PretrainedText",
        "init_args": {"name": str(text)},
    }
    fitted = run("fit", "--config", tiny_config)
    for folder in pretrained_folders:
        folder.rename(folder.with_name("gone-" + folder.name))
    tested = run("test", "--ckpt_path", "best")
    expected = json.loads((fitted / "metrics.json").read_text())["test/rsum"]
    assert json.loads((tested / "metrics.json").read_text())["test/rsum"] == expected
    Matcher.load_from_checkpoint(fitted / "checkpoints" / "best.ckpt")
