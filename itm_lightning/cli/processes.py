"""What starts the processes of a run, and how many: torchrun, SLURM, or Lightning itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import distributed as dist

from itm_lightning.errors import InputError


@dataclass(frozen=True)
class SlurmJob:
    """A batch job.

    Attributes:
        id: as ``scontrol`` takes it, ``<job>`` or ``<array>_<task>``; the same after a requeue.
    """

    id: str

    @staticmethod
    def is_interactive() -> bool:
        """Whether a person types the commands; Lightning too decides by the job's name."""
        return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")

    @classmethod
    def here(cls) -> Self | None:
        """The batch job that this process runs in, if any."""
        job = os.environ.get("SLURM_JOB_ID")
        if job is None or cls.is_interactive():
            return None
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        return cls(job if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}")

    def requeue(self) -> str:
        """Asks SLURM to start the job again, and returns the outcome in one line."""
        command = ["scontrol", "requeue", self.id]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return f"there is no scontrol here to requeue job {self.id}: submit it again"
        if done.returncode:
            why = " ".join(done.stderr.split())
            return f"scontrol requeue {self.id} failed ({why}): submit the job again"
        return f"requeued job {self.id}"


@dataclass(frozen=True)
class LaunchedProcesses:
    """The processes that a launcher other than Lightning starts.

    Attributes:
        launcher: its name.
        flag: the launcher's flag for the number of processes on a node.
        rank: the number of this process among all.
        per_node: the number of processes on a node.
        nodes: the number of nodes.
    """

    launcher: str
    flag: str
    rank: int
    per_node: int
    nodes: int

    def check(self, devices: int, num_nodes: int) -> None:
        """Compares them with what Lightning is told, which would wait for any others.

        Raises:
            InputError: they differ.
        """
        if devices != self.per_node:
            raise InputError(
                f"--trainer.devices is {devices} here, but {self.launcher} starts {self.per_node} "
                f"processes on a node: give --trainer.devices={self.per_node}, "
                f"or {self.launcher} {self.flag}={devices}"
            )
        if num_nodes != self.nodes:
            raise InputError(
                f"--trainer.num_nodes is {num_nodes}, but {self.launcher} has {self.nodes} nodes: "
                f"give --trainer.num_nodes={self.nodes}, or {self.launcher} --nodes={num_nodes}"
            )


def started_by_others() -> LaunchedProcesses | None:
    """The processes of torchrun or SLURM, in the order in which Lightning prefers them, if any."""
    if dist.is_torchelastic_launched():
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // per_node
        rank = int(os.environ["RANK"])
        return LaunchedProcesses("torchrun", "--nproc-per-node", rank, per_node, nodes)
    tasks = os.environ.get("SLURM_NTASKS")
    if tasks is None or SlurmJob.is_interactive():
        return None
    rank = int(os.environ.get("SLURM_PROCID", 0))
    per_node = int(os.environ.get("SLURM_NTASKS_PER_NODE", tasks))
    return LaunchedProcesses("SLURM", "--ntasks-per-node", rank, per_node, int(tasks) // per_node)


def is_first() -> bool:
    """Whether this is the process that writes, before there is a process group."""
    others = started_by_others()
    if others is not None:
        return others.rank == 0
    # Lightning sets these for the processes that it starts
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))


def check_processes(devices: int | str | Sequence[int], num_nodes: int, accelerator: str) -> None:
    """Compares the processes of torchrun or SLURM with the trainer's flags.

    Args:
        devices: as in ``--trainer.devices``.
        num_nodes: as in ``--trainer.num_nodes``.
        accelerator: as in ``--trainer.accelerator``.

    Raises:
        InputError: they differ, or SLURM starts several without saying how many on a node.
    """
    others = started_by_others()
    if others is None:
        return
    if others.launcher == "SLURM" and os.environ["SLURM_NTASKS"] != "1":
        _ask_for_tasks_per_node()
    others.check(_count(devices, accelerator), num_nodes)


def _ask_for_tasks_per_node() -> None:
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise InputError(
            f"SLURM starts {os.environ['SLURM_NTASKS']} tasks without saying how many on a node: "
            "give sbatch --ntasks-per-node instead of --ntasks"
        )


def _count(devices: int | str | Sequence[int], accelerator: str) -> int:
    """The number of devices that Lightning reads from the flag."""
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    if isinstance(devices, int | str) and str(devices) not in ("auto", "-1"):
        return int(devices)
    if isinstance(devices, int | str):
        return 1 if accelerator == "cpu" else max(1, torch.cuda.device_count())
    return len(devices)
