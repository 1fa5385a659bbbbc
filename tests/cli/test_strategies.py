"""FSDP2 through the command line."""

import json
import os

import pytest

from itm_lightning import Matcher
from tests.conftest import REPO

pytestmark = pytest.mark.timeout(200)
BY_NAME = "--trainer.strategy=ModelParallelStrategy"
BY_CLASS = "--trainer.strategy.class_path=ModelParallelStrategy"


@pytest.fixture
def processes(python, tmp_path):
    """Runs ``lightning`` in as many processes as wanted; returns the newest run folder."""

    def _processes(number, *args):
        before = set(tmp_path.glob("runs/*"))
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        command = ["-m", "itm_lightning", *args, f"--trainer.devices={number}"]
        done = python(*command, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return (set(tmp_path.glob("runs/*")) - before).pop()

    return _processes


def scores(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "strategy"), [(1, BY_NAME), (2, BY_CLASS)])
def test_fsdp2_trains_tests_and_leaves_one_file_that_one_process_reads(
    run, processes, tiny_config, tmp_path, number, strategy
):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config))
    fit = "fit", "--config", "config.json"
    sharded = processes(number, *fit, strategy)
    expected = scores(processes(number, *fit, "--trainer.strategy=ddp"))
    assert scores(sharded) == pytest.approx(expected, abs=1e-5)
    best = sharded / "checkpoints" / "best.ckpt"
    assert best.is_file()
    Matcher.load_from_checkpoint(best)
    test = scores(run("test", "--ckpt_path", best, "--trainer.strategy=auto"))
    assert test == {key: expected[key] for key in test}
