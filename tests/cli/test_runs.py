import os
import time

import pytest

from itm_lightning.cli.runs import find_checkpoint, new_run_folder
from itm_lightning.errors import InputError


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    folders = {new_run_folder(tmp_path, "fit") for _ in range(3)}
    assert len(folders) == 3
    assert all(folder.is_dir() for folder in folders)


def test_a_process_started_by_the_run_shares_its_folder(tmp_path, monkeypatch):
    folder = new_run_folder(tmp_path, "fit")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_run_folder(tmp_path, "fit") == folder


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
