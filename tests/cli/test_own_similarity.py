"""A head of the user's own: the README's file and command as written, and an installed package's.

Where nothing but the file or the package says that there is such a head.
"""

import re
import shlex
import sys

import pytest
import torch
import yaml

from tests.conftest import REPO, TINY_SCENES, TINY_TRAINER

SECTION = re.search(
    r"## Add your own similarity\n(.*?)\n## ", (REPO / "README.md").read_text(), re.DOTALL
)[1]


def block(language, number=0):
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[number]


@pytest.fixture
def sizes():
    trainer = {**TINY_TRAINER, "limit_train_batches": 2}
    return {"trainer": trainer, "data": {"source": TINY_SCENES, "batch_size": 8}}


@pytest.fixture
def lightning(python, sizes, tmp_path):
    """Runs ``lightning`` in a process, at toy size; returns the folder of the run."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(sizes))

    def _lightning(*args):
        done = python("-m", "itm_lightning", *args, "--config", "small.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return max(tmp_path.glob("runs/*"))

    return _lightning


def trained(folder):
    """The config and the weights of the best checkpoint's head."""
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    weights = checkpoint["state_dict"]["similarity.log_weights"]
    return checkpoint["matcher"]["config"]["similarity"], weights


def test_the_readmes_file_and_command_train_as_written(lightning, tmp_path):
    (name,) = re.findall(r"`(\w+\.py)`", SECTION)
    (tmp_path / name).write_text(block("python"))
    (tmp_path / "experiments").symlink_to(REPO / "experiments")
    program, *args = shlex.split(block("bash"))
    assert program == "lightning"
    assert args[-2:] == ["--model.similarity", "my_file.MyHead"]
    to_config, weights = trained(lightning(*args))
    assert to_config == {"class_path": "my_file.MyHead", "init_args": {"dim": len(weights)}}
    assert weights.any()  # they started at zero


def test_the_readmes_closed_form_head_is_solved_as_written(run, sizes, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "my_file", raising=False)  # another test's
    (tmp_path / "my_file.py").write_text(block("python", 1))
    (tmp_path / "experiments").symlink_to(REPO / "experiments")
    program, *args = shlex.split(block("bash", 1))
    assert program == "lightning"
    folder = run(*args, "--config", sizes)
    state = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    solved = [value for name, value in state.items() if name.startswith("similarity.")]
    assert solved
    assert all(value.any() for value in solved)
    assert (folder / "test_results.json").is_file()
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    head = checkpoint["matcher"]["config"]["similarity"]
    assert head == {"class_path": "my_file.Regression", "init_args": {}}
    assert checkpoint["state_dict"]["similarity.weight"].any()  # it was zero before


def test_the_readmes_file_is_about_20_lines():
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 20


@pytest.mark.slow
def test_an_installed_packages_head_is_found_by_its_class_name(
    lightning, tiny_config, tmp_path, monkeypatch
):
    site = tmp_path / "site-packages"
    info = site / "my_package-1.0.dist-info"  # what pip leaves of a package
    info.mkdir(parents=True)
    (site / "my_file.py").write_text(block("python"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    group = block("toml").replace("project.entry-points.", "").replace('"', "")
    (info / "entry_points.txt").write_text(group)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")

    tiny_config["model"]["similarity"] = {"class_path": "MyHead"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny_config))
    to_config, weights = trained(lightning("fit", "--config", "config.yaml"))
    assert to_config == {"class_path": "my_file.MyHead", "init_args": {"dim": 16}}
    assert weights.any()
