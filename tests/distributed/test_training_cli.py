"""``lightning fit`` on two processes: plain ``ddp``, whatever the head reads of the encoders."""

import csv
import subprocess
import sys

import pytest
import yaml

#: The whole train split is one step's batch, so that its order says nothing.
PAIRS = 30
CONFIG = {
    "seed_everything": 0,
    "trainer": {
        "accelerator": "cpu",
        "strategy": "ddp",  # of a single process, too: it draws the random numbers anew
        "max_epochs": 3,
        "log_every_n_steps": 1,
        "limit_val_batches": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "model": {
        "image_encoder": {
            "class_path": "TorchvisionCNN",
            "init_args": {
                "name": "squeezenet1_1",
                "image_size": 64,
                "pooling": {"class_path": "AttentionPooling"},
            },
        },
        "text_encoder": {
            "class_path": "RecurrentText",
            "init_args": {"hidden": 8, "word_dim": 8, "pooling": {"class_path": "GPO"}},
        },
        "similarity": {"class_path": "CrossAttention"},  # reads tokens: the poolings go unread
        "objective": {"class_path": "InfoNCE"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        "dim": 16,
    },
    "data": {
        "source": {"class_path": "Scenes", "init_args": {"train": 6, "val": 2, "test": 2}},
    },
}
RUNS = {
    "one process": ("--trainer.devices=1", f"--data.batch_size={PAIRS}"),
    "two processes": ("--trainer.devices=2", f"--data.batch_size={PAIRS // 2}"),
}


@pytest.fixture
def losses(tmp_path):
    """``train/loss`` of each step by run."""
    started = {}
    for name, flags in RUNS.items():
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        command = [sys.executable, "-m", "itm_lightning", "fit", "--config", "config.yaml", *flags]
        with (folder / "output").open("w") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        started[name] = folder, process
    return {name: _losses(*run) for name, run in started.items()}


def _losses(folder, process):
    assert process.wait() == 0, (folder / "output").read_text()
    (path,) = folder.glob("runs/*/metrics.csv")
    with path.open() as table:
        return [float(row["train/loss"]) for row in csv.DictReader(table) if row["train/loss"]]


def test_every_step_is_that_of_one_process_with_the_whole_batch(losses):
    one = losses["one process"]
    assert len(set(one)) == 3
    assert losses["two processes"] == pytest.approx(one, rel=1e-5)
