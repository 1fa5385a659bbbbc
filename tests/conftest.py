"""Fixtures that every test may use. Nothing here or below reaches for the network."""

import gc
import json
import os
import socket
from pathlib import Path

# One thread: several small networks at a time are the tests' load, and results do not depend on it.
os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", OMP_NUM_THREADS="1"
)

import pytest

gc.disable()  # until all tests are collected: modules and tests stay, in millions of objects
REPO = Path(__file__).parents[1]
# The tiny model that the command-line tests train: 2 seconds, not 2 minutes.
TINY_MODEL = {
    "image_encoder": {
        "class_path": "TorchvisionCNN",
        "init_args": {"name": "squeezenet1_1", "image_size": 64},
    },
    "text_encoder": {"class_path": "RecurrentText", "init_args": {"hidden": 16, "word_dim": 16}},
    "similarity": {"class_path": "Cosine"},
    "objective": {"class_path": "InfoNCE"},
    "dim": 16,
}
TINY_SCENES = {
    "class_path": "Scenes",
    "init_args": {"train": 8, "val": 12, "test": 12, "pairs": 0.5},
}
TINY_TRAINER = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def pytest_collection_finish(session):
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def free_port():
    """Gives a port that nothing listens on; tests that run at once get others."""

    def _free_port():
        with socket.socket() as free:
            free.bind(("localhost", 0))
            return free.getsockname()[1]

    return _free_port


@pytest.fixture
def tiny_config():
    """A whole config as plain values, for tests to change and write down."""
    config = {
        "seed_everything": 0,
        "trainer": TINY_TRAINER,
        "model": TINY_MODEL,
        "data": {"source": TINY_SCENES, "batch_size": 8},
    }
    return json.loads(json.dumps(config))


@pytest.fixture(scope="session")
def karpathy_root(tmp_path_factory):
    """A Karpathy-split dataset of rendered scenes, as JPEG files and a JSON on disk."""
    from itm_lightning.data import Scenes  # here: xdist's first process need not wait for it

    root = tmp_path_factory.mktemp("karpathy")
    (root / "images").mkdir()
    scenes = Scenes(seed=1, train=16, val=8, test=8)
    entries = []
    for split in ("train", "val", "test"):
        for record in scenes.records(split):
            filename = f"{split}_{record.image_id}.jpg"
            scenes.image(record).save(root / "images" / filename)
            first = 5 * len(entries)
            sentences = [{"raw": text, "sentid": first + k} for k, text in enumerate(record.texts)]
            entries.append(
                {
                    "filename": filename,
                    "split": split,
                    "imgid": len(entries),
                    "sentences": sentences,
                }
            )
    (root / "dataset_tiny.json").write_text(json.dumps({"images": entries}))
    return root
