"""A run that is cut at any moment and resumed ends as if it had not been."""

import pytest
import torch

from tests.resume.conftest import Outcome
from tests.resume.cutting import CutError

PLATEAU = {
    "class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
    "init_args": {"monitor": "val/rsum", "mode": "max", "patience": 0, "threshold": 50},
}


def with_callbacks(config, *callbacks):
    return {**config, "trainer": {**config["trainer"], "callbacks": list(callbacks)}}


def cut(config, hook, nth, how="Cut"):
    init_args = {"hook": hook, "nth": nth}
    return with_callbacks(
        config, {"class_path": f"tests.resume.cutting.{how}", "init_args": init_args}
    )


def cut_and_resumed(run, config, cuts):
    flags = []
    for hook, nth in cuts:
        with pytest.raises(CutError):
            run("fit", "--config", cut(config, hook, nth), *flags)
        flags = ["--ckpt_path", "last"]
    return Outcome(run("fit", "--config", with_callbacks(config), *flags))


def test_cut_in_the_midst_of_epochs_and_between_them(run, random_config):
    cuts = [
        ("on_before_optimizer_step", 4),
        ("on_validation_batch_start", 2 + 1),  # the sanity check's comes first
        ("on_train_epoch_end", 1),
        ("on_train_batch_start", 8),
    ]
    unbroken = Outcome(run("fit", "--config", random_config))
    assert cut_and_resumed(run, random_config, cuts).equals(unbroken)


@pytest.mark.parametrize(
    ("hook", "nth", "step"),
    [("on_train_batch_start", 7, 4), ("on_validation_batch_start", 2 + 1, 6)],
    ids=["accumulating", "validating"],
)
def test_sigterm_loses_no_step(run, random_config, tmp_path, hook, nth, step):
    """What is under way is finished, and the run goes on from there."""
    random_config["last_checkpoint"]["steps"] = None
    random_config["trainer"]["max_epochs"] = 2
    with pytest.raises(SystemExit) as stopped:
        run("fit", "--config", cut(random_config, hook, nth, "Signalled"))
    assert stopped.value.code == 143
    (last,) = tmp_path.glob("runs/*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == step
    resumed = run("fit", "--config", with_callbacks(random_config), "--ckpt_path", "last")
    assert Outcome(resumed).equals(Outcome(run("fit", "--config", random_config)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "others", "cuts"),
    [
        (
            {"max_epochs": -1, "max_steps": 16},
            {},
            [("on_train_batch_end", 5), ("on_train_epoch_start", 1), ("on_train_batch_end", 7)],
        ),
        (
            {"val_check_interval": 5, "max_epochs": 2},
            {},
            [("on_train_batch_end", 5), ("on_train_batch_end", 3), ("on_validation_end", 2)],
        ),
        (
            {"check_val_every_n_epoch": 2, "max_epochs": 4},
            {},
            [("on_train_batch_end", 5), ("on_train_epoch_start", 2), ("on_train_batch_end", 14)],
        ),
        (
            {"max_epochs": 3},
            {"model.scheduler": PLATEAU, "data.num_workers": 1},
            [("on_train_epoch_start", 3), ("on_train_batch_end", 5)],
        ),
        (
            {"max_epochs": 2},
            {
                "model.image_encoder.init_args.trainable": False,
                "data.augmented_views": 3,
                "data.bucketed": False,
                "data.one_text": False,
                "data.batch_size": 20,
            },
            [("on_train_batch_end", 5), ("on_train_batch_end", 3)],
        ),
    ],
    ids=["steps", "midway", "every-other", "plateau", "frozen"],
)
def test_of_every_kind(run, random_config, trainer, others, cuts):
    random_config["trainer"].update(trainer)
    for path, value in others.items():
        *keys, last = path.split(".")
        place = random_config
        for key in keys:
            place = place[key]
        place[last] = value
    unbroken = Outcome(run("fit", "--config", random_config))
    assert cut_and_resumed(run, random_config, cuts).equals(unbroken)
