"""Runs that are started twice, cut short, resumed as others, or whose files were damaged."""

import json
import multiprocessing
import os
import resource
import shutil
import time

import pytest
import torch

from itm_lightning.cli import main
from itm_lightning.cli.loggers import MetricsCSV
from itm_lightning.data.source import Record
from itm_lightning.data.validation import check_same_records, fingerprints
from itm_lightning.errors import InputError
from itm_lightning.resume.run import Run, find_checkpoint, unlock_runs


@pytest.fixture
def copied(fitted, tmp_path, monkeypatch):
    """A copy of the small run's folder, to be damaged; the runs' root is ``runs``."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(fitted / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "r"


def arguments(fitted, *others):
    return ["fit", "--config", str(fitted / "config.yaml"), *others]


# -- resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--model.optimizer.init_args.lr", "0.5"], "model.optimizer.init_args.lr is 0.5"),
        (["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr=1"], "model.optimizer"),
        (["--model.scheduler.init_args.warmup", "0.5"], "model.scheduler.init_args.warmup"),
        (["--model.lr_factors", "{text_encoder: 0.1}"], "model.lr_factors"),
        (["--seed_everything", "7"], "seed_everything is 7"),
    ],
)
def test_what_a_checkpoint_would_override_is_refused(copied, fitted, refused, flags, key):
    last = copied / "checkpoints" / "last.ckpt"
    said = refused(*arguments(fitted, "--ckpt_path", str(last), "--trainer.max_epochs=3", *flags))
    assert key in said
    assert "--start_from" in said


def test_what_else_is_changed_is_named(copied, fitted, capsys):
    last = copied / "checkpoints" / "last.ckpt"
    main(arguments(fitted, f"--ckpt_path={last}", "--trainer.max_epochs=3", "--data.batch_size=3"))
    said = capsys.readouterr().out
    assert "resumed with data.batch_size 3 instead of 4" in said
    assert "resumed with trainer.max_epochs 3 instead of 2" in said


RECORDS = {"train": [Record(n, (f"a dog {n}",), (n,), f"/there/{n}.jpg") for n in range(4)]}
CHANGED = {
    "a photo gone": (RECORDS["train"][1:], "had 4 photos with 4 captions, and has 3"),
    "a caption changed": ([Record(0, ("a cat",), (0,), "0.jpg"), *RECORDS["train"][1:]], "as many"),
    "another order": (RECORDS["train"][::-1], "as many"),
    "another photo": ([Record(0, ("a dog 0",), (0,), "9.jpg"), *RECORDS["train"][1:]], "as many"),
}


@pytest.mark.parametrize(("now", "what"), CHANGED.values(), ids=CHANGED)
def test_other_data_are_noticed(now, what):
    before = fingerprints(RECORDS)
    check_same_records(before, RECORDS)
    with pytest.raises(InputError, match=f"train split has changed .*{what}"):
        check_same_records(before, {"train": now})


def test_the_same_data_elsewhere_are_the_same():
    moved = [Record(n, (f"a dog {n}",), (n,), f"/elsewhere/{n}.jpg") for n in range(4)]
    check_same_records(fingerprints(RECORDS), {"train": moved})


def test_a_fit_with_other_data_is_refused(copied, fitted, refused, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(fitted, data, ignore=shutil.ignore_patterns("runs"))
    captions = (data / "train_caps.txt").read_text()
    (data / "train_caps.txt").write_text(captions.replace("dog", "cat"))
    last = copied / "checkpoints" / "last.ckpt"
    flags = f"--ckpt_path={last}", "--trainer.max_epochs=3", f"--data.source.root={data}"
    assert "the train split has changed" in refused(*arguments(fitted, *flags))


def test_a_run_that_max_steps_ended_goes_on_within_its_epoch(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, steps, start in (("whole", 7, None), ("cut", 2, None), ("resumed", 7, "cut")):
        started = [f"--ckpt_path=runs/{start}/checkpoints/last.ckpt"] if start else []
        flags = "--model.scheduler=null", f"--trainer.max_steps={steps}", f"--run_name={name}"
        main(arguments(fitted, *flags, *started))
    whole, resumed = (
        torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "resumed")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# -- folders ------------------------------------------------------------------------------------


def hold(folder, locked):
    """Starts a run and does not end it."""
    Run(folder, "fit").begin()
    locked.set()
    time.sleep(60)


def test_a_run_is_started_once_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    locked = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "r", locked))
    other.start()
    assert locked.wait(20)
    with pytest.raises(InputError, match=f"has not ended .process {other.pid}"):
        Run(tmp_path / "r", "fit").begin()
    other.kill()
    other.join()
    Run(tmp_path / "r", "fit").begin()
    unlock_runs()


DAMAGED = {
    "run.json": ["", '{"comm', "[1]", "null", "\0" * 50, '{"a": 1}', "\udce9"],
    "config.yaml": ["", "model: {", "- a", "a: 1\na: 2\n", "\0" * 50],
    "metrics.csv": ["a,b\n1,2\n", "\udcff\udcfe"],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in DAMAGED.items() for text in texts],
    ids=lambda value: repr(value)[:20],
)
def test_a_damaged_file_of_a_run_is_named(copied, fitted, refused, name, text):
    state = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(state | {"finished": False}))
    (copied / name).write_bytes(text.encode(errors="surrogateescape"))
    flags = arguments(fitted, "--run_name=r", "--trainer.max_epochs=3")
    assert f"r/{name}" in refused(*flags)


def test_a_full_disk_leaves_the_last_checkpoint(copied, fitted, refused):
    """A limit on the size of files stands for the disk's."""
    last = copied / "checkpoints" / "last.ckpt"
    before, (_, most) = last.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    state = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(state | {"finished": False}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, most))
    try:
        said = refused(*arguments(fitted, "--run_name=r", "--trainer.max_epochs=4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert ".ckpt: File too large: make room" in said
    assert last.read_bytes() == before
    assert not list(copied.glob("**/*.tmp"))


def test_an_empty_record_of_nothing_is_no_hindrance(tmp_path):
    (tmp_path / "run.json").touch()
    run = Run(tmp_path, "fit")
    run.begin()
    unlock_runs()
    assert run.state["command"] == "fit"


@pytest.mark.parametrize("end", ["", "\r\n3", "\r\n3,4", "\r\n3,4,5\r\n"])
def test_a_torn_row_of_metrics_is_left_out(tmp_path, end):
    (tmp_path / "metrics.csv").write_bytes(f"a,step\r\n1,2{end}".encode())
    log = MetricsCSV(tmp_path)
    log.log_metrics({"a": 5.0}, step=6)
    log.save()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[-1] == "5.0,6"
    assert set(rows) <= {"a,step", "1,2", "5.0,6"}


def test_the_best_is_that_of_the_newest_fit(tmp_path):
    for age, (name, command) in enumerate([("old", "fit"), ("new", "fit"), ("tested", "test")]):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        state = {"command": command, "wandb_id": "x", "finished": True}
        (tmp_path / name / "run.json").write_text(json.dumps(state))
        (tmp_path / name / "config.yaml").write_text("a: 1")
        os.utime(tmp_path / name / "config.yaml", (age, age))
    (tmp_path / "old" / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(InputError, match=r"new, the newest fit, has no .*old"):
        find_checkpoint(tmp_path, "best")
    (tmp_path / "new" / "checkpoints" / "best.ckpt").touch()
    assert find_checkpoint(tmp_path, "best").parts[-3] == "new"


@pytest.mark.parametrize("root", ["/proc/nothing", "/dev/null", "/dev/null/x", "a\0b", "x" * 300])
def test_an_impossible_root_is_named(fitted, refused, root):
    said = refused(*arguments(fitted, f"--trainer.default_root_dir={root}"))
    assert "a path among" in said if "\0" in root else root[:20] in said
