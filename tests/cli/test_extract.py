"""``lightning extract`` and training from what it wrote, or from SCAN's files."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

from itm_lightning.cli import main
from tests.conftest import REPO

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def config(tiny_config, karpathy_root):
    """Photos in files, and a frozen trunk."""
    tiny_config["model"]["image_encoder"]["init_args"]["trainable"] = False
    source = {"class_path": "Karpathy", "init_args": {"root": str(karpathy_root)}}
    return tiny_config | {"data": {"source": source, "batch_size": 8}}


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Runs ``lightning extract``, which leaves its output and no run folder."""
    monkeypatch.chdir(tmp_path)

    def _extract(config, *args):
        path = tmp_path / "extract.yaml"
        path.write_text(yaml.safe_dump(config))
        main(["extract", "--config", str(path), "--output", "features", *args])
        assert not list(tmp_path.glob("runs/*"))
        return tmp_path / "features"

    return _extract


def precomputed(config, root, **more):
    source = {"class_path": "Precomputed", "init_args": {"root": str(root), **more}}
    return config | {"data": {"source": source, "batch_size": 8}}


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def losses(folder):
    rows = csv.DictReader((folder / "metrics.csv").open())
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_from_features_is_training_from_images(config, extract, run, capsys):
    features = extract(config)
    manifest = json.loads((features / "manifest.json").read_text())
    assert manifest["grid"] == {"rows": 3, "columns": 3, "first": 0}
    assert {split: s["shape"] for split, s in manifest["splits"].items()} == {
        "train": [16, 9, 512],
        "val": [8, 9, 512],
        "test": [8, 9, 512],
    }
    assert np.load(features / "train_ims.npy").dtype == np.float16

    capsys.readouterr()
    kept = contents(features)
    extract(config)
    assert "features is complete: nothing to do" in capsys.readouterr().out
    assert contents(features) == kept

    config["trainer"].update(max_epochs=2, log_every_n_steps=1)
    from_images = run("fit", "--config", config)
    from_features = run("fit", "--config", precomputed(config, features))
    assert losses(from_features) == pytest.approx(losses(from_images), abs=1e-4)
    assert len(losses(from_images)) == 20
    expected = metrics(from_images)
    for key, value in metrics(from_features).items():
        assert value == pytest.approx(expected[key], abs=1e-4), key

    tested = run("test", "--ckpt_path", "last")
    assert metrics(tested) == {
        key: value for key, value in metrics(from_features).items() if key.startswith("test/")
    }


KILLED = """
import os, signal, sys
from itm_lightning.data import Karpathy
from itm_lightning.extract import folder

folder._SECONDS_BETWEEN_MARKS = 0
decode, left = Karpathy.image, [12]

def image(self, record):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(self, record)

Karpathy.image = image
from itm_lightning.cli import main
main(sys.argv[1:])
"""


def test_killed_and_started_again_it_leaves_the_same_files(config, extract, refuse, tmp_path):
    size = ("--batch_size", "3", "--splits", "val,train", "--dtype", "float32")
    expected = contents(extract(config, *size))
    (tmp_path / "features").rename(tmp_path / "unbroken")
    command = [sys.executable, "-c", KILLED, "extract", "--config", "extract.yaml"]
    killed = subprocess.run(
        [*command, "--output", "features", *size],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    progress = json.loads((tmp_path / "features" / "progress.json").read_text())
    assert progress["rows_done"] == {"train": 9, "val": 0}
    assert "is half done" in refuse("fit", "--config", precomputed(config, tmp_path / "features"))
    assert contents(extract(config, *size)) == expected


def test_features_of_another_trunk_are_stale(config, extract, refuse, run):
    stale = precomputed(config, extract(config, "--splits", "train,val"))
    stale["model"]["image_encoder"]["init_args"]["image_size"] = 96
    error = refuse("fit", "--config", stale)
    assert "stale" in error
    assert "image_size: 64 there, 96 here" in error
    assert "run `lightning extract` again" in error
    stale["model"]["image_encoder"]["init_args"]["image_size"] = 64
    error = refuse("fit", "--config", stale, "--seed_everything", "1")  # other random weights
    assert "stale" in error
    assert "tensors: " in error


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--model.image_encoder.init_args.trainable=true", "trainable: false"),
        ("--model.image_encoder.init_args.augment=true", "augment: false"),
        ("--model.image_encoder.init_args.name=mobilenet_v2", "512 wide"),
    ],
)
def test_encoders_that_need_images_are_refused_regions(config, scan, refuse, flag, said):
    root = scan("train", 4, 9, 512) and scan("val", 4, 9, 512)
    error = refuse("fit", "--config", precomputed(config, root), flag)
    assert said in error
    assert "Precomputed" in error


def test_an_encoder_of_regions_is_refused_images(config, refuse):
    config["model"]["image_encoder"] = {"class_path": "RegionFeatures", "init_args": {"dim": 6}}
    error = refuse("fit", "--config", config)
    assert "reads precomputed regions, not images: set data.source to Precomputed" in error
    assert error == refuse("extract", "--config", config, "--output", "features")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--splits", "dev"], "--splits names 'dev'; there are train, val, test"),
        (["--batch_size", "0"], "--batch_size is 0"),
        (["--dtype", "int8"], "dtype"),
        (["--output", "."], "--output . is not empty"),
    ],
)
def test_bad_flags_of_extract(config, refuse, flags, said):
    assert said in refuse("extract", "--config", config, "--output", "features", *flags)


# -- SCAN's files, and an encoder that takes regions as they are ----------------------------------


@pytest.fixture
def scan(tmp_path):
    """Writes a split of made-up regions as SCAN lays it out; returns the folder."""
    root = tmp_path / "scan"
    root.mkdir()

    def _scan(split, images, regions, dim, repeated=1, variable=False):
        made = np.random.default_rng(images).normal(size=(images, regions, dim))
        rows = list(made.astype(np.float32).repeat(repeated, axis=0))
        if variable:
            rows = [row[: 1 + (number // repeated) % regions] for number, row in enumerate(rows)]
            np.save(root / f"{split}_ims.npy", np.concatenate(rows))
            np.save(root / f"{split}_offsets.npy", np.cumsum([0, *map(len, rows)]))
        else:
            np.save(root / f"{split}_ims.npy", rows)
        lines = [f"photo {n} has number {k}\n" for n in range(images) for k in range(5)]
        (root / f"{split}_caps.txt").write_text("".join(lines))
        return root

    return _scan


@pytest.mark.parametrize("variable", [False, True], ids=["36 each", "they differ"])
@pytest.mark.parametrize("repeated", [1, 5], ids=["N rows", "5N rows"])
def test_scan_files_are_trained_on_and_tested(tiny_config, scan, run, capsys, variable, repeated):
    for split, images in {"train": 16, "dev": 6, "testall": 7}.items():
        root = scan(split, images, regions=5, dim=6, repeated=repeated, variable=variable)
    (root / "testall_ids.txt").write_text("".join(f"{9 * image}\n" for image in range(7)))
    tiny_config["model"]["image_encoder"] = {
        "class_path": "RegionFeatures",
        "init_args": {"dim": 6, "drop": 0.2, "pooling": {"class_path": "AttentionPooling"}},
    }
    tiny_config["model"]["similarity"] = {"class_path": "CrossAttention"}
    config = precomputed(tiny_config, root, splits={"test": "testall"})
    fitted = run("fit", "--config", config)
    assert "test: 7 images, 35 texts" in capsys.readouterr().out
    report = json.loads((fitted / "val_results.json").read_text())
    assert report["queries"] == {"i2t": 6, "t2i": 30}
    tested = run("test", "--ckpt_path", "best")
    assert metrics(tested)["test/rsum"] == metrics(fitted)["test/rsum"]


def test_regions_of_another_width_are_refused(tiny_config, scan, refuse):
    root = scan("train", 4, 3, 6) and scan("val", 4, 3, 6)
    tiny_config["model"]["image_encoder"] = {
        "class_path": "RegionFeatures",
        "init_args": {"dim": 2048},
    }
    error = refuse("fit", "--config", precomputed(tiny_config, root))
    assert "6 wide" in error
    assert "2048" in error
