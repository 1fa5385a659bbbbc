"""A small run whose files the attacks change, and a canary that no attack may wake."""

import copy

import numpy as np
import pytest
import torch
import yaml

from itm_lightning.cli import main
from tests.conftest import TINY_TRAINER
from tests.layouts import hub_cache  # noqa: F401

#: What would write the file ``canary``: by its import, by its call, or by both.
CANARY = """
from pathlib import Path
from itm_lightning.similarity import Cosine
Path("canary").touch()
class Head(Cosine):
    pass
def call(*args, **kwargs):
    Path("canary").touch()
"""


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """The folder of a small run, and beside it the features that it was trained on."""
    folder = tmp_path_factory.mktemp("fitted")
    for split, images in (("train", 8), ("val", 4), ("test", 4)):
        regions = np.random.default_rng(images).random((images, 3, 6), dtype=np.float32)
        np.save(folder / f"{split}_ims.npy", regions)
        texts = (f"a dog {n}\na red ball {n}\n" for n in range(images))
        (folder / f"{split}_caps.txt").write_text("".join(texts))
    pooling = {"class_path": "AttentionPooling", "init_args": {"hidden": 2}}
    config = {
        "trainer": {**TINY_TRAINER, "max_epochs": 2},
        "model": {
            "image_encoder": {"class_path": "RegionFeatures", "init_args": {"dim": 6}},
            "text_encoder": {
                "class_path": "RecurrentText",
                "init_args": {"hidden": 4, "word_dim": 4, "pooling": pooling},
            },
            "similarity": {"class_path": "CrossAttention"},
            "dim": 4,
            "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.01}},
            "scheduler": {"class_path": "WarmupCosine"},
        },
        "data": {
            "source": {"class_path": "Precomputed", "init_args": {"root": str(folder)}},
            "batch_size": 4,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    root = f"--trainer.default_root_dir={folder / 'runs'}"
    main(["fit", "--config", str(folder / "config.yaml"), root, "--run_name=r"])
    return folder


@pytest.fixture(scope="session")
def content(fitted):
    """What its last checkpoint holds."""
    return torch.load(fitted / "runs" / "r" / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture
def foreign(content, tmp_path, monkeypatch):
    """Writes a changed copy of the checkpoint, where a canary is a module of the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary_module.py").write_text(CANARY)

    def _foreign(change=lambda content: None):
        changed = {key: copy.deepcopy(content[key]) for key in ("matcher", "config", "callbacks")}
        changed = {**content, **changed}
        change(changed)
        torch.save(changed, tmp_path / "foreign.ckpt")
        return str(tmp_path / "foreign.ckpt")

    yield _foreign
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def refused(capsys):
    """Runs ``lightning``, which must end with status 2 and one line; returns that line."""

    def _refused(*args):
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        errors = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code == 2, errors
        assert errors[-1].startswith("error: ")
        assert not any("Traceback" in line for line in errors)
        return errors[-1]

    return _refused
