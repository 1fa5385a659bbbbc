"""The names of runs: stable where something tells one start from another."""

import pytest

from itm_lightning.cli.runs import checked_name, name_of_start
from itm_lightning.errors import InputError

JOB = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "itm"}
ARRAY = {**JOB, "SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "3"}
SWEEP = {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "my job/1"}


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        (JOB, "slurm-17-fit"),
        ({**JOB, "SLURM_RESTART_COUNT": "2"}, "slurm-17-fit"),
        ({**JOB, "SLURM_JOB_NAME": "bash"}, None),
        ({**JOB, "SLURM_JOB_NAME": "interactive"}, None),
        (ARRAY, "slurm-16_3-fit"),
        (TORCHRUN, "torchrun-my_job_1-fit"),
        (JOB | TORCHRUN, "slurm-17-fit"),  # torchrun's id may be another after a requeue
        (SWEEP, "sweep-s-r-fit"),
        (JOB | SWEEP, "sweep-s-r-fit"),  # an agent starts many runs in one job
        ({"WANDB_RUN_ID": "r"}, None),
    ],
)
def test_what_started_the_process_names_the_run(monkeypatch, environment, name):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert name_of_start("fit") == name


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b"])
def test_a_name_is_a_folder_s(name):
    with pytest.raises(InputError, match="--run_name"):
        checked_name(name)


def test_a_name_may_have_dots():
    assert checked_name("thesis_v1.2-Cosine") == "thesis_v1.2-Cosine"
