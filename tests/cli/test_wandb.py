"""What W&B is told, read back from an offline run's own file."""

import json

import pytest
import wandb
import yaml
from PIL import Image

from itm_lightning.data import Scenes
from itm_lightning.resume.run import Run
from tests.cli.wandb_file import (
    config_sent,
    finished_records,
    history,
    keys_logged,
    stored_files,
    summary_of,
)

SECTIONS = {
    *("seed_everything", "trainer", "model", "data", "protocol", "last_checkpoint"),
    *("ensemble", "start_from"),
    *("ckpt_path", "weights_only", "run_name", "wandb_media", "predict", "hub_correction"),
}
OF_STEPS = {"train/loss", "train/lr", "train/temperature", "train/images_per_second"}


SCENES = {"train": 8, "val": 12, "test": 12, "pairs": 0.5}
HISTOGRAMS = {"matched_scores", "hardest_text_scores", "hardest_image_scores"}
SHOWN = {"retrieved_texts", "retrieved_images", "word_maps"}


@pytest.fixture
def wandb_config(tiny_config, tmp_path):
    """A config with W&B; what W&B keeps of a process's runs is forgotten afterwards."""
    tiny_config["trainer"]["logger"] = {
        "class_path": "WandbLogger",
        "init_args": {"project": "itm", "save_dir": str(tmp_path)},
    }
    tiny_config["trainer"]["max_epochs"] = 2
    tiny_config["data"]["source"]["init_args"] = SCENES  # 5 steps an epoch
    tiny_config["model"]["similarity"]["class_path"] = "MaxSim"
    yield tiny_config
    wandb.teardown()


def check_run_and_id(root):
    """One run, one nested config, the agreed keys and media; returns W&B's id."""
    (folder,) = root.glob("runs/*")
    (path,) = root.glob("wandb/offline-run-*/run-*.wandb")
    found = finished_records(path)

    sent = list(config_sent(found))
    config = dict(sent)
    assert set(config) == SECTIONS
    assert len(sent) == len(config)  # nothing was sent twice
    assert config["model"] == yaml.safe_load((folder / "config.yaml").read_text())["model"]
    assert config["run_name"] == folder.name

    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"train/loss", "val/rsum", "val/loss", "test/rsum", "test/i2t_R@1"} <= set(metrics)
    scalars = set(metrics) | OF_STEPS | {"epoch", "trainer/global_step"}
    media = {f"{split}/{key}" for split in ("val", "test") for key in HISTOGRAMS | SHOWN}
    assert keys_logged(found) == scalars | media
    assert (folder / "metrics.csv").is_file()

    (shown,) = (record.run for record in found if record.HasField("run"))
    assert shown.display_name == folder.name
    assert shown.run_group == "Scenes-MaxSim"
    assert set(shown.tags) == {"MaxSim", "Scenes"}
    assert shown.job_type == "fit"
    assert json.loads((folder / "run.json").read_text())["wandb_id"] == shown.run_id
    return shown.run_id


def check_curves(root):
    """A point a step of a short run, a point an epoch, and none of the best checkpoint again."""
    (path,) = root.glob("wandb/offline-run-*/run-*.wandb")
    found = finished_records(path)
    rows = history(found)
    steps = [row for row in rows if "train/loss" in row]
    assert [row["trainer/global_step"] for row in steps] == list(range(10))
    assert all(row.keys() >= OF_STEPS for row in steps)
    assert all(row["train/lr"] == pytest.approx(1e-3) for row in steps)
    assert steps[0]["train/temperature"] == pytest.approx(0.07)
    epochs = [row for row in rows if "val/rsum" in row]
    assert [(row["epoch"], row["trainer/global_step"]) for row in epochs] == [(0, 4), (1, 9)]
    for row in epochs:  # all of an epoch is one step
        assert row.keys() >= {"val/loss", *(f"val/{key}" for key in HISTOGRAMS)}

    axes = {record.metric.name: record.metric for record in found if record.HasField("metric")}
    assert axes["val/rsum"].step_metric == axes["val/loss"].step_metric == "epoch"
    summary = summary_of(found)
    for key, best in (("rsum", max), ("i2t_medr", min), ("loss", min)):
        values = [row[f"val/{key}"] for row in epochs]
        assert summary[f"val/{key}"] == {best.__name__: best(values), "last": values[-1]}
    assert summary["best/rsum"] == pytest.approx(max(row["val/rsum"] for row in epochs))


def check_media(root):
    """What the tables and pictures of the test split hold."""
    (path,) = root.glob("wandb/offline-run-*/run-*.wandb")
    stored = stored_files(finished_records(path))
    by_image = json.loads(stored["test/retrieved_texts.table.json"].read_bytes())
    assert by_image["columns"] == ["image", *(f"answer {place}" for place in range(1, 6))]
    assert len(by_image["data"]) == 3
    by_text = json.loads(stored["test/retrieved_images.table.json"].read_bytes())
    records = Scenes(**SCENES).records("test")
    image_of = {text: record.image_id for record in records for text in record.texts}
    for (image, *answers), (text, same, *images) in zip(
        by_image["data"], by_text["data"], strict=True
    ):
        assert image["sha256"] == same["sha256"]
        assert Image.open(stored[image["path"]]).size == (64, 64)
        for answer in answers:
            mark, _, found = answer.split(" ", 2)
            assert (mark == "✓") == (image_of[found] == image_of[text])
        for answer in images:  # a hit is the query's own image, the same file
            assert answer["caption"].startswith("✓") == (answer["sha256"] == image["sha256"])
    (files,) = root.glob("wandb/offline-run-*/files/media")
    maps = list(files.glob("images/test/word_maps_*.jpg"))
    assert len(maps) == 3
    assert {Image.open(path).width % 160 for path in maps} == {0}


def check_that_a_test_joins(run, fitted, fit_id, root):
    """The same id and name; scores in the summary alone; flags reach the checkpoint's logger."""
    best = fitted / "checkpoints" / "best.ckpt"
    before = set(root.glob("wandb/offline-run-*/run-*.wandb"))
    wandb.teardown()
    tested = run("test", "--ckpt_path", best, "--trainer.logger.init_args.notes", "again")
    wandb.finish()
    (path,) = set(root.glob("wandb/offline-run-*/run-*.wandb")) - before
    found = finished_records(path)
    (shown,) = (record.run for record in found if record.HasField("run"))
    assert (shown.run_id, shown.display_name, shown.notes) == (fit_id, fitted.name, "again")
    assert json.loads((tested / "run.json").read_text())["wandb_id"] == fit_id
    assert dict(config_sent(found))["trainer"] == Run(fitted, "fit").config["trainer"]
    assert not any("test/rsum" in row for row in history(found))
    expected = json.loads((fitted / "metrics.json").read_text())["test/rsum"]
    assert summary_of(found)["test/rsum"] == pytest.approx(expected)


def test_one_run_has_its_config_once_the_agreed_keys_and_media_and_a_test_joins_it(
    run, wandb_config, tmp_path
):
    fitted = run("fit", "--config", wandb_config, "--wandb_media.samples", 3)
    wandb.finish()
    fit_id = check_run_and_id(tmp_path)
    check_curves(tmp_path)
    check_media(tmp_path)
    check_that_a_test_joins(run, fitted, fit_id, tmp_path)


def test_a_group_of_its_own_only_links_a_test(run, wandb_config, tmp_path):
    fitted = run("fit", "--config", wandb_config, "--wandb_media.samples", 0)
    wandb.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert not any("_scores" in key for key in keys_logged(finished_records(path)))
    wandb.teardown()
    best = fitted / "checkpoints" / "best.ckpt"
    tested = run("test", "--ckpt_path", best, "--trainer.logger.init_args.group", "mine")
    wandb.finish()
    (other,) = set(tmp_path.glob("wandb/offline-run-*/run-*.wandb")) - {path}
    found = finished_records(other)
    (shown,) = (record.run for record in found if record.HasField("run"))
    assert (shown.display_name, shown.run_group) == (tested.name, "mine")
    assert shown.job_type == "test"
    assert shown.run_id != json.loads((fitted / "run.json").read_text())["wandb_id"]
    assert any("test/rsum" in row for row in history(found))


@pytest.mark.slow
def test_two_processes_are_one_run(wandb_config, lightning, tmp_path):
    done = lightning("fit", "--config", wandb_config, "--trainer.devices=2")
    assert done.returncode == 0, done.stderr
    check_run_and_id(tmp_path)
    assert done.stdout.count("run folder:") == 1
    (folder,) = tmp_path.glob("runs/*")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {
        *("config.yaml", "run.json", "run.lock", "metrics.csv", "metrics.json", "timing.json"),
        *("val_results.json", "test_results.json", "val_ranks.npz", "test_ranks.npz"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }


def test_a_run_of_a_sweep_has_the_id_and_a_folder_of_its_own(
    run, wandb_config, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sw33p")
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    folder = run("fit", "--config", wandb_config)
    wandb.finish()
    assert folder.name == "sweep-sw33p-abc123-fit"
    assert check_run_and_id(tmp_path) == "abc123"
