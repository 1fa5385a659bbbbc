"""An error in one process: it ends all of them, soon, and is seen."""

import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
PART = """
import os
from itm_lightning.objectives import InfoNCE


class FailsOnOne(InfoNCE):
    def loss(self, *args):
        if os.environ["LOCAL_RANK"] == os.environ["FAILING_RANK"]:
            {failure}
        return super().loss(*args)
"""
RAISE = 'raise RuntimeError("no such luck")'
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "itm_lightning")
TWO = ("--trainer.devices=2", "--model.objective=my_part.FailsOnOne")


@pytest.fixture
def fail(tmp_path, tiny_config, lightning):
    """A fit of two processes, one of which fails in its first step."""

    def _fail(rank, failure=RAISE, **kwargs):
        (tmp_path / "my_part.py").write_text(PART.format(failure=failure))
        done = lightning("fit", "--config", tiny_config, *TWO, FAILING_RANK=str(rank), **kwargs)
        assert done.returncode != 0
        return done

    return _fail


def test_a_child_of_lightning(fail):
    assert "RuntimeError: no such luck" in fail(rank=1).stderr


def test_the_parent_of_lightning_s(fail):
    assert "rank 0 failed: RuntimeError: no such luck" in fail(rank=0).stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_of_torchrun(fail, rank):
    error = fail(rank, by=TORCHRUN).stderr
    assert f"rank {rank} failed: RuntimeError: no such luck" in error


def test_one_that_hangs_while_it_cleans_up(fail, tmp_path):
    """Its clean-up waits for ever, as NCCL's may: it is ended, and with it all others."""
    hang = "import atexit, time; atexit.register(time.sleep, 1000); raise RuntimeError('no luck')"
    start = time.monotonic()
    assert "RuntimeError: no luck" in fail(1, hang).stderr
    assert time.monotonic() - start < 200  # of 1000


def test_bad_input_of_all_is_said_once(tiny_config, lightning):
    # it is found when the trainer has started both
    flags = ["--trainer.devices=2", '--model.lr_factors={"nothing": 0.5}']
    done = lightning("fit", "--config", tiny_config, *flags)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "nothing" in done.stderr


def test_torchrun_s_processes_share_a_run(tiny_config, lightning, tmp_path):
    done = lightning("fit", "--config", tiny_config, "--trainer.devices=2", by=TORCHRUN)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/*")
    assert done.stdout.count("run folder:") == 1
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert (folder / "metrics.json").is_file()
