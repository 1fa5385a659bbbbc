"""``lightning fit`` on two processes: plain ``ddp``, whatever the head reads of the encoders."""

import csv
import subprocess
import sys

import pytest
import yaml

from tests.distributed.processes import in_this_process

#: The whole train split is one step's batch, so that its order says nothing.
PAIRS = 30
CONFIG = {
    "seed_everything": 0,
    "trainer": {
        "accelerator": "cpu",
        "precision": "64-true",  # in 32 bits, max pooling of near ties makes a step 1e-4 another
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


def losses(folder):
    """``train/loss`` of each step."""
    (path,) = folder.glob("*/metrics.csv")
    with path.open() as table:
        return [float(row["train/loss"]) for row in csv.DictReader(table) if row["train/loss"]]


def test_every_step_is_that_of_one_process_with_the_whole_batch(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))

    def fit(processes):
        return [
            *("fit", f"--config={tmp_path / 'config.yaml'}", f"--trainer.devices={processes}"),
            f"--data.batch_size={PAIRS // processes}",
            f"--trainer.default_root_dir={tmp_path / str(processes)}",
        ]

    command = [sys.executable, "-m", "itm_lightning", *fit(2)]
    two = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    in_this_process(fit(1))
    printed = two.communicate()[0].decode()
    assert two.returncode == 0, printed

    one = losses(tmp_path / "1")
    assert len(set(one)) == 3
    assert losses(tmp_path / "2") == pytest.approx(one, rel=1e-9)
