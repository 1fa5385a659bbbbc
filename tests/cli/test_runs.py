"""A run's folder: its own, and the same whenever the run is started again."""

import json
import os
import time

import pytest
import torch

from itm_lightning.cli.runs import begin_run, environment_of_one_run, new_run
from itm_lightning.errors import InputError
from itm_lightning.resume.run import find_checkpoint


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    folders = {new_run(tmp_path, "fit").folder for _ in range(3)}
    assert len(folders) == 3
    assert all(folder.is_dir() for folder in folders)


def test_a_process_started_by_the_run_shares_its_folder(tmp_path, monkeypatch):
    with environment_of_one_run():
        run = new_run(tmp_path, "fit")
        begin_run(run)
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert new_run(tmp_path, "fit").folder == run.folder


def test_last_is_the_newest_run_s(tmp_path):
    for age, name in enumerate(["a", "c", "b"]):
        path = tmp_path / name / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (time.time() + age,) * 2)
    assert find_checkpoint(tmp_path, "last").parts[-3] == "b"
    with pytest.raises(InputError, match="best"):
        find_checkpoint(tmp_path, "best")
    assert find_checkpoint(tmp_path, str(path)) == path


@pytest.fixture
def named(run, tiny_config, tmp_path):
    """A finished run of two epochs, called ``mine``."""
    run("fit", "--config", tiny_config, "--run_name=mine", "--trainer.max_epochs=2")
    return tmp_path / "runs" / "mine"


def steps(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def unfinish(folder):
    """As if the process had been killed before it was through."""
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"finished": False}))


def test_a_finished_run_is_neither_done_again_nor_overwritten(named, run, tiny_config, capsys):
    last = (named / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    with pytest.raises(SystemExit) as ended:
        run("fit", "--config", tiny_config, "--run_name=mine", "--trainer.max_epochs=2")
    assert ended.value.code in (0, None)
    assert "complete" in capsys.readouterr().out

    for args, words in {
        ("fit", "--trainer.max_epochs=3"): ["trainer.max_epochs 2 instead of 3", "--run_name"],
        ("fit", "--trainer.max_epochs=2", "--data.batch_size=4"): [
            "data.batch_size 8",
            "--run_name",
        ],
        ("test", "--ckpt_path=best"): ["holds a fit", "--run_name"],
    }.items():
        with pytest.raises(SystemExit) as ended:
            run(args[0], "--config", tiny_config, *args[1:], "--run_name=mine")
        assert ended.value.code == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert all(word in error for word in words), error
    assert (named / "checkpoints" / "last.ckpt").stat().st_mtime_ns == last


def test_a_stopped_run_goes_on_in_its_folder(named, run, tiny_config, capsys, tmp_path):
    unfinish(named)
    before, rows = steps(named), (named / "metrics.csv").read_text().splitlines()
    # where it once started does not matter any more
    again = ["--run_name=mine", "--trainer.max_epochs=3", "--ckpt_path=gone.ckpt"]
    with pytest.raises(KeyError):  # no new folder
        run("fit", "--config", tiny_config, *again)
    assert "mine, from" in capsys.readouterr().out
    assert steps(named) == before * 3 // 2
    assert [p.name for p in tmp_path.glob("runs/*")] == ["mine"]
    now = (named / "metrics.csv").read_text().splitlines()
    assert now[: len(rows) - 2] == rows[:-2]  # all but the scores of the best, made at the end
    assert json.loads((named / "run.json").read_text())["finished"] is True


def test_a_stopped_run_keeps_its_model_and_data(named, run, tiny_config, capsys):
    unfinish(named)
    with pytest.raises(SystemExit):
        run("fit", "--config", tiny_config, "--run_name=mine", "--model.dropout=0.5")
    assert "model.dropout 0.0 instead of 0.5" in capsys.readouterr().err
    # by its name alone, the loader's processes apart
    with pytest.raises(KeyError):
        run("fit", "--run_name=mine", "--data.num_workers=1")
