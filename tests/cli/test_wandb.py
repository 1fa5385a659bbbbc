"""What W&B is told, read back from an offline run's own file."""

import json

import pytest
import wandb
import yaml

from tests.cli.wandb_file import config_sent, finished_records, keys_logged

SECTIONS = {
    *("seed_everything", "trainer", "model", "data", "protocol", "last_checkpoint"),
    "ensemble",
    *("ckpt_path", "weights_only", "run_name"),
}
OF_STEPS = {"train/loss", "train/lr", "train/temperature", "train/images_per_second"}


@pytest.fixture
def wandb_config(tiny_config, tmp_path):
    """A config with W&B; what W&B keeps of a process's runs is forgotten afterwards."""
    tiny_config["trainer"]["logger"] = {
        "class_path": "WandbLogger",
        "init_args": {"project": "itm", "save_dir": str(tmp_path)},
    }
    tiny_config["trainer"]["log_every_n_steps"] = 5
    yield tiny_config
    wandb.teardown()


def check_run_and_id(root):
    """One run, one nested config, the agreed keys; returns W&B's id."""
    (folder,) = root.glob("runs/*")
    (path,) = root.glob("wandb/offline-run-*/run-*.wandb")
    found = finished_records(path)

    sent = list(config_sent(found))
    config = dict(sent)
    assert set(config) == SECTIONS
    assert len(sent) == len(config)  # nothing was sent twice
    assert config["model"] == yaml.safe_load((folder / "config.yaml").read_text())["model"]

    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"train/loss", "val/rsum", "val/loss", "test/rsum", "test/i2t_R@1"} <= set(metrics)
    assert keys_logged(found) == set(metrics) | OF_STEPS | {"epoch", "trainer/global_step"}
    assert (folder / "metrics.csv").is_file()

    (wandb_id,) = {record.run.run_id for record in found if record.HasField("run")}
    assert json.loads((folder / "run.json").read_text())["wandb_id"] == wandb_id
    return wandb_id


def test_one_run_has_one_nested_config_and_the_agreed_keys(run, wandb_config, tmp_path):
    run("fit", "--config", wandb_config)
    wandb.finish()
    check_run_and_id(tmp_path)


@pytest.mark.slow
def test_two_processes_are_one_run(wandb_config, lightning, tmp_path):
    done = lightning("fit", "--config", wandb_config, "--trainer.devices=2")
    assert done.returncode == 0, done.stderr
    check_run_and_id(tmp_path)
    assert done.stdout.count("run folder:") == 1
    (folder,) = tmp_path.glob("runs/*")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {
        *("config.yaml", "run.json", "metrics.csv", "metrics.json"),
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
