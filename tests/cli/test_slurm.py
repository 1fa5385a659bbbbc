"""A simulated SLURM: its variables, its signals, and a stand-in for scontrol."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from itm_lightning.cli.processes import SlurmJob
from tests.cli.conftest import in_file
from tests.cli.wandb_file import config_sent, finished_records
from tests.conftest import REPO

pytestmark = pytest.mark.timeout(280)
JOB = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "itm",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}
RUN = "runs/slurm-4711-fit"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A stand-in on PATH that writes its arguments down; returns the file."""
    log, script = tmp_path / "scontrol.log", tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    return log


@pytest.fixture
def job(tmp_path, tiny_config, free_port):
    """Starts the tasks of a job as ``srun lightning fit`` would; returns them."""
    tiny_config["trainer"].update(max_epochs=100, log_every_n_steps=1)
    tiny_config["trainer"]["logger"] = {"class_path": "WandbLogger"}
    config = in_file(tiny_config, tmp_path)
    started = []

    def _job(*args, tasks=1):
        count = {"SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": str(tasks)}
        port = {"MASTER_PORT": str(free_port())}  # not the job number's, the same in all
        for task in map(str, range(tasks)):
            number = {"SLURM_PROCID": task, "SLURM_LOCALID": task}
            environment = {**os.environ, "PYTHONPATH": str(REPO), **JOB, **port, **count, **number}
            command = [sys.executable, "-m", "itm_lightning", "fit", "--config", config, *args]
            output = (tmp_path / f"out-{task}.txt").open("a")
            started.append(
                subprocess.Popen(
                    command, cwd=tmp_path, env=environment, stdout=output, stderr=output
                )
            )
        return started[-tasks:]

    yield _job
    for process in started:
        process.kill()
        process.wait()


def output(folder):
    return "".join(path.read_text() for path in sorted(folder.glob("out-*.txt")))


def stop_in_training(tasks, number, folder, signalled):
    """Sends the signal to some of the tasks while they train, and waits for all to end."""
    last = folder / RUN / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns if last.exists() else 0
    while not last.exists() or last.stat().st_mtime_ns == before:
        assert all(task.poll() is None for task in tasks), output(folder)
        time.sleep(0.1)
    for task in tasks[:signalled]:
        task.send_signal(number)
    return [task.wait() for task in tasks]


def steps(folder):
    return torch.load(folder / RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.slow
def test_a_job_is_requeued_and_goes_on(scontrol, job, tmp_path):
    statuses = stop_in_training(job(), signal.SIGUSR1, tmp_path, 1)
    assert statuses == [143], output(tmp_path)
    assert scontrol.read_text() == "requeue 4711\n"
    stopped = steps(tmp_path)
    assert stopped > 0

    epochs = stopped // 5 + 2
    (task,) = job(f"--trainer.max_epochs={epochs}")
    assert task.wait() == 0, output(tmp_path)
    assert steps(tmp_path) == 5 * epochs
    assert [path.name for path in tmp_path.glob("runs/*")] == ["slurm-4711-fit"]
    assert (tmp_path / RUN / "test_results.json").is_file()  # it went on to its very end

    # two folders of W&B's, one run; each start sends one config, of the same model
    paths = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(paths) == 2
    starts = [finished_records(path) for path in paths]
    ids = {r.run.run_id for found in starts for r in found if r.HasField("run")}
    assert ids == {json.loads((tmp_path / RUN / "run.json").read_text())["wandb_id"]}
    sent = [list(config_sent(found)) for found in starts]
    assert all(len(pairs) == len(dict(pairs)) for pairs in sent)
    assert dict(sent[0])["model"] == dict(sent[1])["model"]
    bin_folder, path = Path(sys.executable).parent, os.environ["PATH"]
    listed = subprocess.run(
        "wandb sync --dry-run wandb/offline-run-*",  # what the README says, without a network
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "WANDB_SILENT": "false", "PATH": f"{bin_folder}{os.pathsep}{path}"},
    )
    assert listed.returncode == 0
    for path in paths:
        assert path.parent.name in listed.stdout + listed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("signalled", [1, 2])
def test_two_tasks_stop_together(scontrol, job, tmp_path, number, signalled):
    statuses = stop_in_training(job("--trainer.devices=2", tasks=2), number, tmp_path, signalled)
    assert statuses == [143, 0], output(tmp_path)
    assert scontrol.read_text() == "requeue 4711\n"
    stopped, epochs = steps(tmp_path), steps(tmp_path) // 8 + 2
    tasks = job("--trainer.devices=2", f"--trainer.max_epochs={epochs}", tasks=2)
    assert [task.wait() for task in tasks] == [0, 0], output(tmp_path)
    assert steps(tmp_path) > stopped
    assert len(list(tmp_path.glob("runs/*"))) == 1
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2  # of the first task, twice


@pytest.mark.slow
def test_sigterm_before_training_asks_for_requeue_too(scontrol, job, tmp_path):
    (task,) = job("--data.source.train=100000")  # scenes are drawn before the first step
    while "run folder" not in output(tmp_path):
        time.sleep(0.05)
    task.send_signal(signal.SIGTERM)
    assert task.wait() == 143, output(tmp_path)
    assert scontrol.read_text() == "requeue 4711\n"


def test_what_becomes_of_a_requeue_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no scontrol" in SlurmJob("7").requeue()
    script = tmp_path / "scontrol"
    script.write_text("#!/bin/sh\necho 'Job is not\nrequeueable' >&2\nexit 1\n")
    script.chmod(0o755)
    said = SlurmJob("7").requeue()
    assert "Job is not requeueable" in said
    assert "submit" in said
    script.write_text("#!/bin/sh\nexit 0\n")
    assert SlurmJob("16_3").requeue() == "requeued job 16_3"


def test_an_array_s_task_is_requeued_by_its_own_id(monkeypatch):
    for name, value in {"SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "3", **JOB}.items():
        monkeypatch.setenv(name, value)
    assert SlurmJob.here() == SlurmJob("16_3")
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert SlurmJob.here() is None
