"""A run in which all is random that may be, and what it leaves behind."""

import json

import pytest
import torch

from tests.cli.conftest import run  # noqa: F401

STEPS_AN_EPOCH = 6  # 11 batches, two a step
EPOCHS = 3


@pytest.fixture
def random_config(tiny_config):
    """Dropout, noise on words, augmented photos, captions drawn, a schedule by the step."""
    source = tiny_config["data"]["source"]["init_args"]
    source.update(train=44, val=8, test=8)
    tiny_config["data"].update(batch_size=4, one_text=True, bucketed=True)
    tiny_config["trainer"].update(max_epochs=EPOCHS, accumulate_grad_batches=2)
    tiny_config["model"]["image_encoder"]["init_args"].update(augment=True, image_size=32)
    tiny_config["model"]["text_encoder"]["init_args"]["word_noise"] = 0.3
    tiny_config["model"].update(
        dropout=0.2,
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}},
        scheduler={"class_path": "WarmupCosine"},
    )
    tiny_config["last_checkpoint"] = {"steps": 2}
    return tiny_config


class Outcome:
    """What a run has come to."""

    def __init__(self, folder):
        self.folder = folder
        self.last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        (best,) = (s for key, s in self.last["callbacks"].items() if "BestCheckpoint" in key)
        self.best = torch.load(best["best_model_path"], weights_only=True)
        for checkpoint in (self.last, self.best):  # a run's speed is never the same twice
            checkpoint.get("resume", {}).get("metrics", {}).pop("train/images_per_second", None)
        self.metrics = json.loads((folder / "metrics.json").read_text())

    def equals(self, other):
        """Bit for bit, what the run learnt and how it was scored, and where its numbers stand."""
        for mine, others in ((self.last, other.last), (self.best, other.best)):
            assert_same(mine["state_dict"], others["state_dict"])
            for key in ("optimizer_states", "lr_schedulers", "global_step", "epoch", "resume"):
                assert_same(mine[key], others[key], key)
        assert self.metrics == other.metrics
        return True


def assert_same(mine, others, where=""):
    assert type(mine) is type(others), where
    if isinstance(mine, dict):
        assert mine.keys() == others.keys(), where
        for key in mine:
            assert_same(mine[key], others[key], f"{where}.{key}")
    elif isinstance(mine, (list, tuple)):
        assert len(mine) == len(others), where
        for number, (one, other) in enumerate(zip(mine, others, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(mine, torch.Tensor):
        assert torch.equal(mine, others), where
    else:
        assert mine == others, where
