"""Choosing an evaluation protocol, and what is written down of it."""

import json

import numpy as np
import pytest
import torch
import yaml

from itm_lightning import list_registered
from itm_lightning.cli import main
from itm_lightning.data import Scenes
from itm_lightning.metrics.protocols import Coco5K
from itm_lightning.metrics.protocols.judged import Judgements
from itm_lightning.part import from_config
from tests.conftest import TINY_SCENES

FOLDS = {"class_path": "Coco1K", "init_args": {"folds": 3, "fold_size": 4, "texts_per_image": 2}}


def results(folder, split):
    return json.loads((folder / f"{split}_results.json").read_text())


def named(to_config):
    return to_config["class_path"].rpartition(".")[2]


def test_the_test_after_fit_goes_by_the_protocol_and_so_does_a_later_test(run, tiny_config, capsys):
    tiny_config["protocol"] = FOLDS
    fitted = run("fit", "--config", tiny_config)
    assert "test: 12 images, 24 texts · protocol Coco1K" in capsys.readouterr().out

    report = results(fitted, "test")
    assert named(report["protocol"]) == "Coco1K"
    assert report["protocol"]["init_args"] == FOLDS["init_args"]
    assert named(report["dataset"]) == "Scenes"
    assert report["dataset"]["init_args"]["test"] == 12
    assert (report["split"], report["images"], report["texts"]) == ("test", 12, 24)
    assert report["texts_per_image"] == {"min": 2, "max": 2}
    assert report["queries"] == {"i2t": 12, "t2i": 24}
    metrics = json.loads((fitted / "metrics.json").read_text())
    assert {f"test/{key}": value for key, value in report["scores"].items()} == {
        key: value for key, value in metrics.items() if key.startswith("test/")
    }
    # epochs were chosen by everything against everything, and val is scored so again
    plain = results(fitted, "val")
    assert named(plain["protocol"]) == "Retrieval"
    assert (plain["texts"], plain["scores"]["rsum"]) == (60, metrics["val/rsum"])

    again = results(run("test", "--ckpt_path", "best"), "test")
    assert again == report
    by_flag = results(run("test", "--ckpt_path", "best", "--protocol", "Retrieval"), "test")
    assert (named(by_flag["protocol"]), by_flag["texts"]) == ("Retrieval", 60)
    assert by_flag["scores"]["rsum"] < report["scores"]["rsum"]  # 12 photos are more than 4
    assert named(results(run("validate", "--ckpt_path", "best"), "val")["protocol"]) == "Retrieval"


def judgements_of_scenes(name):
    """Of some queries of the tiny test split: their own answers, and the next image's."""
    records = Scenes(**TINY_SCENES["init_args"]).records("test")
    pairs = [(records[i], records[i + 1]) for i in range(0, 8, 2)]
    return Judgements(
        i2t={a.image_id: frozenset(a.text_ids + b.text_ids[:2]) for a, b in pairs},
        t2i={a.text_ids[1]: frozenset({a.image_id, b.image_id}) for a, b in pairs},
    )


def test_every_reported_number_follows_from_the_file_of_ranks(run, tiny_config, monkeypatch):
    monkeypatch.setattr(Coco5K, "images", 12)
    monkeypatch.setattr("itm_lightning.metrics.protocols.judged.judgements", judgements_of_scenes)
    fitted = run("fit", "--config", tiny_config)
    assert {path.name for path in fitted.glob("*.npz")} == {"val_ranks.npz", "test_ranks.npz"}
    folders = [fitted]
    for protocol in (FOLDS, "EccvCaption", "CxC"):
        folders.append(run("test", "--ckpt_path", "best", "--config", {"protocol": protocol}))
    for folder in folders:
        report = results(folder, "test")
        with np.load(folder / "test_ranks.npz", allow_pickle=False) as file:
            per_query = {name: torch.from_numpy(file[name]) for name in file.files}
        for way, number in report["queries"].items():
            assert len(per_query[f"{way}_ids"].unique()) == number
        scores = from_config(report["protocol"]).summarise(per_query)
        assert scores.keys() == report["scores"].keys()
        assert report["scores"] == {key: round(value, 6) for key, value in scores.items()}
        assert "pairs_accuracy" in scores


def test_a_flag_chooses_a_protocol_and_its_arguments_for_val_too(run, tiny_config):
    fitted = run("fit", "--config", tiny_config)
    assert yaml.safe_load((fitted / "config.yaml").read_text())["protocol"]["class_path"] == (
        "itm_lightning.metrics.protocols.Retrieval"
    )
    flags = ["--protocol", "Coco1K", "--protocol.folds", "2", "--protocol.fold_size=6"]
    folder = run("validate", "--ckpt_path", "best", *flags)
    report = results(folder, "val")
    assert report["protocol"]["init_args"] == {"folds": 2, "fold_size": 6, "texts_per_image": 5}
    assert not (folder / "test_results.json").exists()


def test_the_epochs_of_a_fit_are_scored_by_class_too_and_the_best_is_chosen_so(run, tiny_config):
    tiny_config["protocol"] = "ClassMAP"
    tiny_config["trainer"]["max_epochs"] = 2
    folder = run("fit", "--config", tiny_config)
    metrics = json.loads((folder / "metrics.json").read_text())
    ways = [f"{way}_mAP{at}" for way in ("i2t", "t2i") for at in ("", "@50")]
    for key in [f"{split}/{key}" for split in ("val", "test") for key in (*ways, "mAP")]:
        assert 0 < metrics[key] < 1
    history = (folder / "metrics.csv").read_text().splitlines()
    column = history[0].split(",").index("val/mAP")
    epochs = [float(line.split(",")[column]) for line in history[1:] if line.split(",")[column]]
    assert max(epochs[:2]) == pytest.approx(metrics["val/mAP"], abs=1e-6)


@pytest.mark.parametrize("by_flag", [True, False])
def test_an_unknown_protocol_is_named_and_the_others_listed(refuse, tiny_config, by_flag):
    flags = ["--protocol", "Coco2K"] if by_flag else ["--config", {"protocol": "Coco2K"}]
    error = refuse("fit", "--config", tiny_config, *flags)
    assert "there is no protocol 'Coco2K'" in error
    for name in list_registered("protocol"):
        assert name in error


def test_a_protocol_for_another_number_of_images_is_refused_before_training(refuse, tiny_config):
    error = refuse("fit", "--config", tiny_config, "--protocol", "Coco5K")
    assert "Coco5K is over 5000 images, but there are 12" in error
    assert "--protocol Retrieval" in error


@pytest.mark.parametrize("name", ["EccvCaption", "CxC"])
def test_ids_that_are_not_cocos_are_refused_before_training(refuse, tiny_config, monkeypatch, name):
    pytest.importorskip("eccv_caption", reason="needs pip install eccv_caption")
    monkeypatch.setattr(Coco5K, "images", 12)
    error = refuse("fit", "--config", tiny_config, "--protocol", name)
    assert f"{name} needs COCO's image and caption ids" in error


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_help_names_the_protocols(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--protocol PROTOCOL" in text
    assert "EccvCaption, Flickr30k1K" in " ".join(text.split())
