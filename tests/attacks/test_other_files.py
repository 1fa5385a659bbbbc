"""Files beside checkpoints that might name code: manifests, results, modules of the folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from itm_lightning.cli import main
from itm_lightning.compare.runs import read_outcome
from itm_lightning.data import Precomputed
from itm_lightning.errors import InputError
from tests.attacks.conftest import CANARY
from tests.conftest import REPO

EVIL = {"class_path": "canary_module.call", "init_args": {"command": "touch canary"}}


@pytest.fixture
def folder(fitted, tmp_path, monkeypatch):
    """A copy of the run and its features, where a canary is a module of the folder."""
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    (tmp_path / "canary_module.py").write_text(CANARY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "canary").exists()


def test_a_manifest_builds_nothing(folder, capsys):
    encoder = {"config": EVIL, "fingerprint": EVIL}
    manifest = {"version": 2, "encoder": encoder, "class_names": [], "grid": None, "splits": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    source = f"--data.source={json.dumps({**EVIL, 'class_path': 'Precomputed'})}"
    assert Precomputed(str(folder)).made_by == EVIL
    with pytest.raises(SystemExit):
        main(["fit", "--config", "config.yaml", f"{source}"])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["dataset", "protocol"])
def test_results_of_a_run_build_parts_alone(folder, name):
    path = folder / "runs" / "r" / "test_results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: EVIL}))
    outcome = read_outcome(folder / "runs" / "r", "test")
    if name == "dataset":
        with pytest.raises(InputError, match=r"names the class canary_module\.call"):
            outcome.source()


def test_the_folder_comes_last_on_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["list", "pooling"])
    assert sys.path[-1] == ""
    assert "" not in sys.path[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["datasets", "wandb", "transformers", "timm", "yaml"])
def test_a_module_of_the_folder_takes_no_packages_place(folder, name):
    (folder / f"{name}.py").write_text(CANARY)
    command = "from itm_lightning.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, "test", "--ckpt_path=runs/r/checkpoints/best.ckpt"],
        cwd=folder,
        env={"PYTHONPATH": str(REPO), "PATH": "", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
