"""The SLURM job that this process is part of."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class SlurmJob:
    """A batch job.

    Attributes:
        id: as ``scontrol`` takes it, ``<job>`` or ``<array>_<task>``; the same after a requeue.
    """

    id: str

    @staticmethod
    def is_interactive() -> bool:
        """Whether a person types the commands; Lightning goes by the job's name, too."""
        return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")

    @classmethod
    def here(cls) -> Self | None:
        """The batch job that this process runs in, if it does."""
        job = os.environ.get("SLURM_JOB_ID")
        if job is None or cls.is_interactive():
            return None
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        return cls(job if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}")

    def requeue(self) -> str:
        """Asks SLURM to start the job again, and says in one line what came of it."""
        command = ["scontrol", "requeue", self.id]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return f"there is no scontrol here to requeue job {self.id}: submit it again"
        if done.returncode:
            why = " ".join(done.stderr.split())
            return f"scontrol requeue {self.id} failed ({why}): submit the job again"
        return f"requeued job {self.id}"
