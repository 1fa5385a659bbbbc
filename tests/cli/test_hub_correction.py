"""``--hub_correction``: the plain scores as ever, and beside them the corrected ones."""

import json

import pytest

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
from itm_lightning.evaluating import encode_split
from itm_lightning.metrics.hubness import correct_hubs
from itm_lightning.metrics.protocols import Retrieval
from itm_lightning.similarity import NNN
from tests.conftest import TINY_SCENES


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_both_scores_are_reported(run, tiny_config, capsys):
    fitted = run("fit", "--config", tiny_config)
    plain, scores = read(fitted, "test_results.json"), read(fitted, "metrics.json")
    assert plain["hub_correction"] is None
    capsys.readouterr()

    flags = ["--hub_correction", "NNN", "--hub_correction.k=7"]
    folder = run("test", "--ckpt_path", "best", *flags)
    report = read(folder, "test_results.json")
    corrected = report.pop("hub_correction")
    assert report == {key: value for key, value in plain.items() if key != "hub_correction"}
    assert corrected["correction"]["class_path"].endswith(".NNN")
    assert corrected["correction"]["init_args"] == {"k": 7, "alpha": 0.75}
    n_train = TINY_SCENES["init_args"]["train"]
    assert corrected["bank"] == {"images": n_train, "texts": 5 * n_train}

    logged = read(folder, "metrics.json")
    assert logged.items() >= {k: v for k, v in scores.items() if k.startswith("test/")}.items()
    assert corrected["scores"].keys() == report["scores"].keys()
    for key, value in corrected["scores"].items():
        assert logged[f"test/NNN_{key}"] == pytest.approx(value, abs=1e-6)

    matcher = Matcher.load_from_checkpoint(fitted / "checkpoints/best.ckpt")
    data = ITMDataModule(Scenes(**TINY_SCENES["init_args"]), batch_size=8)
    data.connect(matcher.image_encoder)
    gallery, bank = (encode_split(matcher, data, split) for split in ("test", "train"))
    both = correct_hubs(matcher.similarity, gallery, bank, NNN(k=7))
    assert corrected["scores"] == Retrieval().evaluate(*both, data.ground_truth("test")).scores
    assert corrected["hubness"].keys() == {"before", "after"}

    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("test: 12 images, 60 texts · protocol Retrieval") == 2
    bank = f"{n_train} images, {5 * n_train} texts of train"
    assert f"hubs corrected by NNN bank: {bank}" in printed


def test_models_of_an_ensemble_are_corrected_together(run, tiny_config):
    tiny_config["hub_correction"] = {"class_path": "InvertedSoftmax"}
    first = run("fit", "--config", tiny_config)
    assert read(first, "val_results.json")["hub_correction"]["scores"]
    best = str(first / "checkpoints/best.ckpt")
    twice = ["--ensemble.checkpoints", f"[{best}]", "--hub_correction", "InvertedSoftmax"]
    together = read(run("test", "--ckpt_path", best, *twice), "test_results.json")
    assert together["models"] == 2
    alone = read(first, "test_results.json")["hub_correction"]["scores"]
    assert together["hub_correction"]["scores"] == pytest.approx(alone)


def test_what_cannot_be_corrected_is_refused(refuse, tiny_config):
    assert "there is no hub_correction 'NN'" in refuse(
        "test", "--config", tiny_config, "--hub_correction", "NN"
    )
    assert "hub_correction is for validate and test" in refuse(
        "predict", "--config", tiny_config, "--hub_correction", "NNN"
    )
    assert "NNN: k is 0" in refuse(
        "test", "--config", tiny_config, "--hub_correction", "NNN", "--hub_correction.k", "0"
    )
    tiny_config["data"]["source"]["init_args"]["train"] = 0
    assert "takes its bank from the train split, and Scenes has none" in refuse(
        "test", "--config", tiny_config, "--hub_correction", "NNN"
    )
    assert "protocol TransductiveClassMAP reads the train split, and Scenes has none" in refuse(
        "test", "--config", tiny_config, "--protocol", "TransductiveClassMAP"
    )
