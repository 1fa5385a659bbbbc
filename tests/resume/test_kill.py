"""Processes that are killed ten times end as one that never was."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
import yaml

from tests.conftest import REPO
from tests.resume.conftest import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
KILLED = {
    "class_path": "tests.resume.cutting.Killed",
    "init_args": {"variable": "KILLED_AFTER"},
}


@pytest.fixture
def fit(random_config, tmp_path):
    """Runs ``lightning fit`` in a group of processes; by when it is to be killed, if it is."""
    random_config["trainer"].update(max_epochs=8, callbacks=[KILLED])
    path = tmp_path / "config.yaml"

    def _fit(name, killed_after=None):
        path.write_text(yaml.safe_dump(random_config))
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        if killed_after:
            environment["KILLED_AFTER"] = killed_after
        command = ["-m", "itm_lightning", "fit", "--config", str(path), "--run_name", name]
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        output = process.communicate()[0]
        assert process.returncode == (-signal.SIGKILL if killed_after else 0), output
        return tmp_path / "runs" / name

    return _fit


def whole_files(folder):
    """All checkpoints can be read."""
    return [torch.load(path, weights_only=True) for path in folder.rglob("*.ckpt")]


def wandb_id(outcome):
    return json.loads((outcome.folder / "run.json").read_text())["wandb_id"]


SETTINGS = {
    "one-process": {"trainer.logger": {"class_path": "WandbLogger"}},
    "a-worker": {"data.num_workers": 1},
    # the sum of three numbers depends on their order
    "three-processes": {"trainer.devices": 3, "trainer.strategy": "ddp", "trainer.max_epochs": 30},
    # each has half of an epoch's batches
    "two-processes": {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.max_epochs": 16},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_killed_ten_times(fit, random_config, tmp_path, setting):
    for path, value in SETTINGS[setting].items():
        section, key = path.split(".")
        random_config[section][key] = value
    unbroken = Outcome(fit("unbroken"))
    random_config["last_checkpoint"]["steps"] = 1
    dice = random.Random(setting)
    for _ in range(10):
        folder = fit("killed", f"{dice.randint(2, 9)} {dice.uniform(0, 0.2)}")
        whole_files(folder)
    resumed = Outcome(fit("killed"))
    assert resumed.equals(unbroken)
    assert not [path for path in resumed.folder.rglob("*") if path.suffix == ".tmp"]
    if "trainer.logger" in SETTINGS[setting]:  # a folder of W&B's for each start, one id for all
        told = [path.name.rpartition("-")[2] for path in tmp_path.glob("wandb/offline-run-*")]
        assert sorted(told) == sorted([wandb_id(unbroken), *11 * [wandb_id(resumed)]])
    names = {path.relative_to(resumed.folder) for path in resumed.folder.rglob("*.*")}
    assert names == {path.relative_to(unbroken.folder) for path in unbroken.folder.rglob("*.*")}
