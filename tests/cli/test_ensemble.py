"""``--ensemble``: several checkpoints score a split as one."""

import json

import pytest
import torch

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
from itm_lightning.metrics import retrieval_recall
from tests.conftest import TINY_SCENES

WEIGHTS = [1.0, 3.0]


@pytest.fixture
def models(run, tiny_config):
    """Two checkpoints, of models that agree in nothing but the data."""
    first = run("fit", "--config", tiny_config)
    image_encoder, text_encoder = (
        tiny_config["model"][f"{kind}_encoder"] for kind in ("image", "text")
    )
    image_encoder["init_args"]["image_size"] = 48
    text_encoder["init_args"]["hidden"] = 8
    other = {
        "similarity": {"class_path": "MaxSim"},
        "dim": 8,
        "objective": {"class_path": "Triplet"},
    }
    tiny_config["model"].update(other)
    second = run("fit", "--config", tiny_config)
    return [str(folder / "checkpoints" / "best.ckpt") for folder in (first, second)]


def scores_of(path):
    """All photos of the test split by all captions, and their ids."""
    model = Matcher.load_from_checkpoint(path)
    data = ITMDataModule(Scenes(**TINY_SCENES["init_args"]), batch_size=100).connect(
        model.image_encoder
    )
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        return model(batch.images, batch.texts), batch.image_ids, batch.text_image_ids


def of_all(models):
    first, *others = models
    return "--ckpt_path", first, f"--ensemble.checkpoints={json.dumps(others)}"


def test_they_score_as_the_weighted_mean_of_their_matrices(run, models, capsys):
    folder = run("test", *of_all(models), f"--ensemble.weights={WEIGHTS}")
    assert "mean of 2 models" in " ".join(capsys.readouterr().out.split())
    (one, *ids), (two, *_) = map(scores_of, models)
    expected = retrieval_recall((one + 3 * two) / 4, *ids)
    report = json.loads((folder / "test_results.json").read_text())
    assert report["models"] == 2
    for key, value in expected.items():
        assert report["scores"][key] == pytest.approx(float(value), abs=1e-5), key
    alone = [float(retrieval_recall(scores, *ids)["i2t_meanr"]) for scores in (one, two)]
    assert report["scores"]["i2t_meanr"] not in alone
    assert 0 <= report["scores"]["pairs_accuracy"] <= 100


def test_they_validate_and_retrieve_together(run, models):
    assert (run("validate", *of_all(models)) / "val_results.json").is_file()
    lines = (run("predict", *of_all(models)) / "predictions.jsonl").read_text().splitlines()
    (one, _, _), (two, _, _) = map(scores_of, models)
    mean = (one + two) / 2
    found = [answer["score"] for answer in json.loads(lines[0])["results"]]
    assert found == pytest.approx(mean[0].topk(10).values.tolist(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ModelParallelStrategy"])
def test_processes_score_together_as_one_process_does(run, models, lightning, tmp_path, strategy):
    alone = run("test", *of_all(models))
    before = set(tmp_path.glob("runs/*"))
    flags = "--trainer.accelerator=cpu", "--trainer.devices=2", f"--trainer.strategy={strategy}"
    done = lightning("test", *of_all(models), *flags)
    assert done.returncode == 0, done.stderr
    (folder,) = set(tmp_path.glob("runs/*")) - before
    two, one = (json.loads((f / "test_results.json").read_text()) for f in (folder, alone))
    assert two == one


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("test", ['--ensemble.checkpoints=["missing.ckpt"]'], ["missing.ckpt", "no such file"]),
        ("test", ["--ensemble.weights=[1, 2]"], ["[1.0, 2.0]", "1 models", "--ckpt_path first"]),
        ("test", ["--ensemble.weights=[0]"], ["above 0"]),
    ],
)
def test_bad_input_is_refused(refuse, tiny_config, command, flags, words):
    error = refuse(command, "--config", tiny_config, *flags)
    assert all(word in error for word in words), error


def test_a_fit_has_one_model_and_a_test_a_first_one(refuse, tiny_config, tmp_path, monkeypatch):
    from itm_lightning.cli import checkpoint_config as module

    monkeypatch.setattr(module, "read_checkpoint", lambda *_: {})
    flag = '--ensemble.checkpoints=["some.ckpt"]'
    assert "fit has one model" in refuse("fit", "--config", tiny_config, flag)
    assert "needs --ckpt_path" in refuse("test", "--config", tiny_config, flag)
