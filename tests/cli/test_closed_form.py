"""A head that is solved, through the command line: what it says, leaves, and does when stopped."""

import json

import pytest

from itm_lightning.cli import main
from tests.cli.conftest import in_file
from tests.resume.conftest import Outcome
from tests.resume.cutting import CutError


@pytest.fixture
def config(tiny_config):
    tiny_config["model"] = {
        "image_encoder": tiny_config["model"]["image_encoder"],
        "text_encoder": {"class_path": "BagOfWords", "init_args": {"dim": 40}},
        "similarity": {"class_path": "CCA", "init_args": {"components": 8, "ridge": 0.1}},
    }
    return tiny_config


def test_its_checkpoint_is_tested_like_any_other(run, config):
    fitted = run("fit", "--config", config)
    results = json.loads((fitted / "metrics.json").read_text())
    assert "train/loss" not in results
    tested = run("test", "--ckpt_path", fitted / "checkpoints" / "best.ckpt")
    assert json.loads((tested / "metrics.json").read_text())["test/rsum"] == results["test/rsum"]


@pytest.mark.parametrize(
    ("trainable", "said"),
    [(True, ["image_encoder: not trained, because CCA is solved in closed form"]), (False, [])],
)
def test_says_what_does_not_learn(run, config, trainable, said, caplog):
    config["model"]["image_encoder"]["init_args"]["trainable"] = trainable
    run("fit", "--config", config)
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "not trained" in message] == said


@pytest.mark.parametrize(
    ("how", "error"), [("Cut", CutError), ("Signalled", SystemExit)], ids=["cut", "sigterm"]
)
def test_a_pass_that_was_stopped_starts_over(run, config, how, error, tmp_path):
    config["last_checkpoint"] = {"steps": 1}  # which no pass heeds: its sums are not kept
    unbroken = Outcome(run("fit", "--config", config))
    stop = {"hook": "on_train_batch_start", "nth": 3}
    config["trainer"]["callbacks"] = [
        {"class_path": f"tests.resume.cutting.{how}", "init_args": stop}
    ]
    command = ["fit", "--run_name", "mine", "--config"]
    with pytest.raises(error):
        main([*command, in_file(config, tmp_path)])
    assert not list((tmp_path / "runs" / "mine").rglob("*.ckpt"))
    del config["trainer"]["callbacks"]
    main([*command, in_file(config, tmp_path)])
    assert Outcome(tmp_path / "runs" / "mine").equals(unbroken)
