"""Files that a run leaves, when it is written to and when it is killed meanwhile."""

import os
import time

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.resume import AtomicCheckpointIO, BestCheckpoint, Cadence
from itm_lightning.utils.atomic_files import remove_unfinished, write_json


class KilledError(BaseException):
    pass


def killed(*_):
    raise KilledError


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_checkpoint_is_the_old_one_until_the_new_is_whole(tmp_path, monkeypatch, moment):
    path = tmp_path / "new folder" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, path)
    with monkeypatch.context() as patched:
        patched.setattr(os, moment, killed)
        with pytest.raises(KilledError):
            AtomicCheckpointIO().save_checkpoint({"number": 2}, path)
    assert torch.load(path) == {"number": 1}
    assert len(list(path.parent.iterdir())) == 2
    remove_unfinished(path.parent)
    assert list(path.parent.iterdir()) == [path]
    AtomicCheckpointIO().save_checkpoint({"number": 3}, str(path))
    assert torch.load(path) == {"number": 3}


def test_json_is_the_old_one_until_the_new_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_json(path, {"rsum": 1})
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KilledError):
        write_json(path, {"rsum": 2})
    assert path.read_text() == '{\n  "rsum": 1\n}\n'


def test_the_best_score_goes_along_to_another_folder(tmp_path):
    state = BestCheckpoint(tmp_path / "a", "rsum").state_dict()
    path, score = str(tmp_path / "a" / "best.ckpt"), torch.tensor(300.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "best.ckpt").touch()
    state |= {"best_model_path": path, "best_model_score": score, "best_k_models": {path: score}}
    other = BestCheckpoint(tmp_path / "b", "rsum")
    other.load_state_dict(state)
    assert other.best_model_score == 300
    assert other.best_k_models == {path: 300}
    (tmp_path / "a" / "best.ckpt").unlink()
    other = BestCheckpoint(tmp_path / "b", "rsum")
    other.load_state_dict(state)
    assert other.best_model_score is None  # the next is the best there is


class TestCadence:
    def test_by_minutes(self, monkeypatch):
        now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        cadence = Cadence(minutes=2)
        cadence.restart(5)
        now += 119
        assert not cadence.due(10**6)
        now += 1
        assert cadence.due(5)
        cadence.restart(5)
        assert not cadence.due(5)

    def test_by_steps_even_where_one_was_missed(self):
        cadence = Cadence(steps=3)
        cadence.restart(4)
        assert [cadence.due(step) for step in (5, 6, 7, 8)] == [False, False, True, True]

    @pytest.mark.parametrize("how", [{"minutes": 0}, {"steps": 0}, {"steps": -1}])
    def test_nothing_is_no_cadence(self, how):
        (name,) = how
        with pytest.raises(InputError, match=f"Cadence: {name} is {how[name]}; it must be"):
            Cadence(**how)
