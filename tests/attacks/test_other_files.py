"""Files beside checkpoints that might name code: manifests, results, modules of the folder."""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from itm_lightning.cli import main
from itm_lightning.cli.checkpoint_sections import checked_sections
from itm_lightning.compare.runs import read_outcome
from itm_lightning.data import Paired, Precomputed
from itm_lightning.errors import InputError
from itm_lightning.part import from_config, skip_pretrained
from itm_lightning.resume.run import Run, unlock_runs
from tests.attacks.conftest import CANARY
from tests.conftest import REPO

BEST = "runs/r/checkpoints/best.ckpt"
HEADS = "--similarities=[Cosine]"
#: Each command, as a user may start it in a folder that he was sent.
COMMANDS = {
    "fit": ["fit", "--config=config.yaml", "--data.num_workers=1"],
    "fit on two processes": ["fit", "--config=config.yaml", "--trainer.devices=2"],
    "a fit that starts from it": ["fit", "--config=config.yaml", f"--start_from={BEST}"],
    "test": ["test", f"--ckpt_path={BEST}"],
    "validate": ["validate", f"--ckpt_path={BEST}", f"--ensemble.checkpoints=[{BEST}]"],
    "predict": ["predict", f"--ckpt_path={BEST}"],
    "explain": ["explain", f"--ckpt_path={BEST}", "--split=val", "--output=pages"],
    "compare": ["compare", "--runs", "runs/r", "--output=compared"],
    "compare that trains": ["compare", "--config=config.yaml", HEADS, "--output=compared"],
    "list": ["list"],
}
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


DAMAGED = {
    "test_results.json": (b"", b"{", b"[1]", b"null", b'{"scores": {}}', b"\xff\xfe"),
    "test_ranks.npz": (b"", b"PK\x03\x04" + b"\0" * 50, b"\x80\x04}q\x00."),
    "timing.json": (b"", b"{}"),
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, each) for name, contents in DAMAGED.items() for each in contents]
)
def test_damaged_results_of_a_run_are_named(folder, name, content):
    run = folder / "runs" / "r"
    (run / "metrics.csv").write_bytes(b"\xff\xfe\0")  # has curves alone, and may be anything
    read_outcome(run, "test")
    (run / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}|runs/r has a file"):
        read_outcome(run, "test")


LABELS = {
    "NaN": ([0, 1, float("nan")], "have nan in row 2"),
    "fractions": ([0, 0.5, 1], "have 0.5 in row 1"),
    "counts": ([[0, 1], [1, 0], [2, 0]], "have 2 in row 2"),
    "another way": ([[0, 1], [1, 0], [1, 0]], "in one split"),
    "texts": (["0", "1", "1"], "give whole"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_pairs_that_are_no_classes_are_named(tmp_path, kind):
    labels, said = LABELS[kind]
    arrays = {f"{side}_{s}": np.eye(3) for side in ("image", "text") for s in ("train", "test")}
    np.savez(tmp_path / "a.npz", **arrays, label_train=np.array(labels), label_test=np.arange(3.0))
    with pytest.raises(InputError, match=said):
        Paired(str(tmp_path)).records("train")


#: A package that is not installed, and one in whose place a file of the folder may come.
SHADOWS = (
    *("torch", "datasets", "wandb", "timm", "nltk", "yaml", "signal"),
    *("peft", "kernels", "accelerate", "sitecustomize", "usercustomize"),
)


@pytest.fixture
def hostile(folder):
    """A folder as someone may send it: files with packages' names, and a package's metadata."""
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(CANARY)
    info = folder / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (folder / "matplotlibrc").write_text("backend: module://canary_module\ntext.usetex: True\n")
    groups = "itm_lightning.pooling", "lightning.pytorch.callbacks_factory", "torch.backends"
    points = "".join(f"[{group}]\nx = canary_module:Head\n" for group in groups)
    (info / "entry_points.txt").write_text(points)
    return folder


def test_the_folder_comes_onto_the_path_only_for_a_module_that_the_user_names(hostile, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    main(["list", "pooling"])
    assert "" not in sys.path
    code = "from itm_lightning.pooling import MaxPooling\nclass Mine(MaxPooling):\n    pass\n"
    (hostile / "my_pooling_in_a_folder.py").write_text(code)
    main(["list", "pooling", "--trust", "my_pooling_in_a_folder"])
    assert "" not in sys.path
    named = "--model.text_encoder.pooling=my_pooling_in_a_folder.Mine"
    main(["fit", "--config", "config.yaml", named, "--run_name=own"])
    assert sys.path[-1] == ""


#: A checkpoint's name for its class, and flags in which the user has written just that.
NAMED_BY_CHANCE = {
    "the checkpoint's own name": ("foreign.ckpt", []),
    "a flag's": ("data.source.root", ["--data.source.root=."]),
    "a folder's": ("canary_module.Photos", ["--data.source.root=canary_module.Photos"]),
    "part of a path": ("canary_module.Head", ["--data.source.root=x/canary_module.Head"]),
}


@pytest.mark.parametrize("name", NAMED_BY_CHANCE)
def test_a_files_name_is_not_a_class_that_the_user_names(foreign, refused, tmp_path, name):
    class_path, flags = NAMED_BY_CHANCE[name]
    (tmp_path / "data").mkdir()
    (tmp_path / "canary_module.Photos").mkdir()
    for module in ("foreign.py", "data/source.py"):
        (tmp_path / module).write_text(CANARY)

    def change(content):
        part = {"class_path": class_path, "init_args": {}}
        content["matcher"]["config"]["similarity"] = content["config"]["model"]["similarity"] = part

    foreign(change)
    line = refused("test", "--ckpt_path=foreign.ckpt", *flags)
    assert f"names the class {class_path}, which a file may not build" in line


@pytest.fixture
def script(tmp_path_factory):
    """The console script, which lies in no folder of the user's."""
    path = tmp_path_factory.mktemp("bin") / "lightning"
    path.write_text("from itm_lightning.cli import main\nif __name__ == '__main__':\n    main()\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("by_module", [False, True], ids=["script", "-m"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_a_file_of_the_folder(hostile, script, by_module, command):
    start = ["-m", "itm_lightning"] if by_module else [script]
    done = subprocess.run(
        [sys.executable, *start, *COMMANDS[command]],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


LOGGERS = {
    "CSVLogger": {"save_dir": "canary"},
    "TensorBoardLogger": {"save_dir": "canary"},
    "MLFlowLogger": {"tracking_uri": "file:canary"},
    "CometLogger": {"workspace": "someone"},
}


@pytest.mark.parametrize("logger", LOGGERS)
def test_a_test_takes_no_logger_of_a_fit_but_that_of_wandb(foreign, logger):
    """The checkpoint lies in the folder of a fit, as that of a download does."""
    given = {"class_path": f"pytorch_lightning.loggers.{logger}", "init_args": LOGGERS[logger]}
    path = Path(foreign(lambda content: content["config"]["trainer"].update(logger=given)))
    (path.parent / "r" / "checkpoints").mkdir(parents=True)
    moved = path.rename(path.parent / "r" / "checkpoints" / "best.ckpt")
    (path.parent / "r" / "run.json").write_text('{"command": "fit", "wandb_id": "x"}')
    content = torch.load(moved, weights_only=True)
    assert "logger" not in checked_sections(content, "test", moved, own=False)["trainer"]


def test_a_run_of_another_is_not_written_through_its_links(tmp_path):
    theirs, ours = tmp_path / "r", tmp_path / "ours"
    theirs.mkdir()
    ours.write_text("kept")
    for name in ("run.json", "run.json.tmp", "metrics.csv", "metrics.csv.tmp"):
        (theirs / name).symlink_to(ours)
    ours.write_text('{"command": "fit", "wandb_id": "x"}')
    run = Run(theirs, "fit")
    run.begin()
    run.finish()
    unlock_runs()
    assert ours.read_text() == '{"command": "fit", "wandb_id": "x"}'
    (theirs / "run.lock").unlink()
    (theirs / "run.lock").symlink_to(ours)
    with pytest.raises(OSError, match=r"run\.lock"):
        run.begin()
    assert ours.read_text() == '{"command": "fit", "wandb_id": "x"}'


def test_a_recipe_says_no_folder_to_store_tokens_in():
    name = "itm_lightning.encoders.pretrained_text.PretrainedText"
    arguments = {"name": "gone", "trainable": False, "store": "canary"}
    with skip_pretrained():
        encoder = from_config({"class_path": name, "init_args": arguments})
    assert encoder.store is None


def test_a_folders_name_does_not_reach_the_terminal(folder, capsys, monkeypatch):
    (folder / "runs" / "r").rename(folder / "runs" / "\x1b]0;owned\x07\x1b[2J")
    log = io.StringIO()
    monkeypatch.setattr(
        logging.getLogger("pytorch_lightning"), "handlers", [logging.StreamHandler(log)]
    )
    main(["fit", "--ckpt_path=last", "--trainer.max_epochs=3"])
    assert "owned" in log.getvalue()
    assert not set("\x1b\x07") & set(capsys.readouterr().out + log.getvalue())
