"""Arguments of the command line that are wrong: one line that names them, and what there is."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from itm_lightning.cli import main
from tests.conftest import REPO

#: Arguments after ``fit --config config.yaml``, and what the one line says.
QUICK = {
    "abbreviated": (["--data.batch", "3"], "unrecognized arguments: --data.batch"),
    "unknown argument": (["--model.objective=Triplet", "--model.objective.margn=1"], "margin?"),
    "its arguments": (["--model.text_encoder.hiden=1"], "RecurrentText has no 'hiden'"),
    "of an optimiser": (["--model.optimizer=Adam", "--model.optimizer.lrr=1"], "Adam has no 'lrr'"),
    "unknown class": (["--model.similarity=Cosin"], "did you mean Cosine?"),
    "unknown optimiser": (["--model.optimizer=Adan"], "there is no class Adan"),
    "wrong kind": (["--model.dim=wide"], "model.dim: Expected a int. Got value: wide"),
    "not a number": (["--trainer.gradient_clip_val=nan"], "trainer.gradient_clip_val"),
    "seed": (["--seed_everything=-1"], "seed_everything is -1"),
    "huge seed": ([f"--seed_everything={2**40}"], "seed_everything is"),
    "no accumulation": (["--trainer.accumulate_grad_batches=0"], "it must be at least 1"),
    "no epochs between": (["--trainer.check_val_every_n_epoch=0"], "it must be at least 1"),
    "no interval": (["--trainer.val_check_interval=0"], "val_check_interval is 0"),
    "a word for a rate": (
        ["--model.optimizer=AdamW", "--model.optimizer.lr=fast"],
        "model.optimizer: lr: Expected a float",
    ),
    "clipping": (["--trainer.gradient_clip_val=-1"], "it must be at least 0"),
    "brackets": (["--model.similarity", "[" * 5000], "model.similarity"),
}
SLOW = {
    "batch of one": (["--data.batch_size=1"], "give at least 2"),
    "no batch": (["--data.batch_size=0"], "batch_size is 0; it must be at least 1"),
    "workers": (["--data.num_workers=-1"], "num_workers is -1"),
    "too many workers": (["--data.num_workers=99999"], "it must be at most 1,024"),
    "huge interval": (["--trainer.val_check_interval=1000000000"], "`val_check_interval`"),
    "a callback's": (
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k=-5"],
        "ModelCheckpoint: Invalid value for save_top_k=-5",
    ),
    "a callback of no text": (
        ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00"],
        "Timer: ",
    ),
    "negative rates": (
        [
            *("--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=-1"),
            "--model.scheduler.total_steps=4",
        ],
        "OneCycleLR: lr is -0.04",
    ),
    "a negative factor": (
        ["--model.scheduler=ExponentialLR", "--model.scheduler.gamma=-1"],
        "ExponentialLR: gamma is -1.0",
    ),
    "a schedule's": (
        ["--model.scheduler=LinearLR", "--model.scheduler.start_factor=0"],
        "model.scheduler cannot be made",
    ),
    "a schedule that is too short": (
        [
            *("--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=1"),
            "--model.scheduler.total_steps=1",
        ],
        "total steps is 1",
    ),
    "dropout": (["--model.dropout=1.5"], "dropout is 1.5; it must be at most 1"),
    "unknown rate": (["--model.text_encoder.unknown_rate=-0.1"], "unknown_rate is -0.1"),
    "margin": (["--model.objective=Triplet", "--model.objective.margin=-1"], "margin is -1.0"),
    "hidden": (["--model.text_encoder.hidden=0"], "RecurrentText: hidden is 0"),
    "huge": (["--model.dim=1000000000000"], "Matcher: dim is"),
    "memory": (["--model.dim=1048576", "--model.text_encoder.hidden=1048576"], "memory"),
    "learning rate": (["--model.optimizer=AdamW", "--model.optimizer.lr=-1"], "learning rate"),
    "endless rate": (["--model.optimizer=AdamW", "--model.optimizer.lr=1.0e+999"], "lr"),
    "warm-up": (["--model.scheduler.warmup=2"], "warmup is 2.0"),
    "no period": (["--model.scheduler=StepLR", "--model.scheduler.step_size=0"], "step_size is 0"),
    "never logged": (
        ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/nope"],
        "EarlyStopping watches 'val/nope', which is never logged",
    ),
    "never logged, no trial": (
        [
            *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/nope"),
            "--trainer.num_sanity_val_steps=0",
        ],
        "Early stopping conditioned on metric `val/nope`",
    ),
    "W&B's project": (
        ["--trainer.logger=WandbLogger", "--trainer.logger.project=a/b"],
        "W&B: Invalid project name 'a/b'",
    ),
    "devices": (["--trainer.devices=0"], "devices"),
    "accelerator": (["--trainer.accelerator=tpux"], "invalid accelerator name"),
    "epochs": (["--trainer.max_epochs=-5"], "max_epochs"),
    "time": (["--trainer.max_time=99"], "not a valid duration"),
    "direction": (["--model.similarity.direction=x2y"], "direction must be one of t2i, i2t, both"),
    "name": (["--run_name=a/b"], "--run_name 'a/b' names a folder"),
    "no root": (
        ["--data.source=Karpathy", "--data.source.root=/nothing"],
        "dataset folder /nothing is missing: set data.source.root",
    ),
    "no root of COCO": (
        ["--data.source=CocoCaptions", "--data.source.root=/nothing"],
        "dataset folder /nothing is missing: set data.source.root",
    ),
    "no weights": (["--model.text_encoder.vectors=/none.txt"], "no word vectors file /none.txt"),
    "no checkpoint": (["--ckpt_path=nope.ckpt"], "there is no such file"),
}
UNSCORED = {
    "trainer.limit_val_batches is 0": ["--trainer.limit_val_batches=0"],
    "before its first validation": ["--trainer.check_val_every_n_epoch=9"],
    "trainer.fast_dev_run": ["--trainer.fast_dev_run=1"],
    "trainer.enable_checkpointing is off": ["--trainer.enable_checkpointing=false"],
}


def check(fitted, tmp_path, refused, flags, said):
    root = f"--trainer.default_root_dir={tmp_path}"
    assert said in refused("fit", "--config", fitted / "config.yaml", root, *flags)


@pytest.mark.parametrize(("flags", "said"), QUICK.values(), ids=QUICK)
def test_it_is_named(fitted, tmp_path, refused, flags, said):
    check(fitted, tmp_path, refused, flags, said)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "said"), SLOW.values(), ids=SLOW)
def test_it_is_named_once_parts_are_made(fitted, tmp_path, refused, flags, said):
    check(fitted, tmp_path, refused, flags, said)


@pytest.mark.slow
@pytest.mark.parametrize(("why", "flags"), UNSCORED.items(), ids=UNSCORED)
def test_a_fit_without_a_table_says_why(fitted, tmp_path, capsys, why, flags):
    root = f"--trainer.default_root_dir={tmp_path}"
    main(["fit", "--config", str(fitted / "config.yaml"), root, *flags])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "no table" in line)
    assert why in line


def test_a_query_that_is_no_text_is_named(fitted, refused, tmp_path):
    text, said = "half a \udcff", "half of a surrogate pair"
    best = fitted / "runs" / "r" / "checkpoints" / "best.ckpt"
    root = f"--trainer.default_root_dir={tmp_path}"
    assert said in refused("predict", "--ckpt_path", best, root, "--predict.texts", text)
    images = "--images", tmp_path / "none.png"
    assert said in refused("explain", "--ckpt_path", best, *images, "--texts", text)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 5000, "1" * 5000])
def test_any_text_is_a_query(fitted, tmp_path, text):
    best = fitted / "runs" / "r" / "checkpoints" / "best.ckpt"
    root = f"--trainer.default_root_dir={tmp_path}"
    main(["predict", f"--ckpt_path={best}", root, "--run_name=p", "--predict.texts", text])
    assert (tmp_path / "p" / "predictions.jsonl").stat().st_size > len(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "said"),
    [("--num_workers=-1", "--num_workers is -1"), ("--num_workers=9999", "--num_workers is 9999")],
)
def test_extract_names_its_numbers(refused, tiny_config, tmp_path, flag, said):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tiny_config))
    assert said in refused(
        "extract", f"--config={tmp_path / 'c.yaml'}", f"--output={tmp_path}", flag
    )


@pytest.mark.slow
def test_a_seed_is_compared_once(refused, tmp_path):
    heads = "--similarities", "[Cosine]", "--seeds", "[1, 1]"
    assert "--seeds has a seed twice" in refused("compare", "--output", tmp_path / "o", *heads)


@pytest.mark.slow
def test_ctrl_c_at_start_up_is_one_line(tmp_path):
    command = [sys.executable, "-m", "itm_lightning", "list"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    time.sleep(1)  # within the imports, which take longer
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert said == "stopped\n"


def test_the_version_is_told(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("itm-lightning ")
