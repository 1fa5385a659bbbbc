"""What a run is called, such that it has the same name when it is started again."""

from __future__ import annotations

import os
import re
import uuid
from datetime import datetime, timedelta

from torch.distributed import TCPStore

from itm_lightning.cli.slurm import SlurmJob
from itm_lightning.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def checked_name(name: str) -> str:
    """The name given as ``--run_name``.

    Raises:
        InputError: it cannot be a folder's name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--run_name {name!r} names a folder: letters, digits, '.', '_' and '-' only"
        )
    return name


def name_of_start(command: str) -> str | None:
    """A name by what started the process: W&B's agent, else SLURM, else torchrun.

    Args:
        command: the subcommand; each has a run of its own.

    Returns:
        None where nothing tells this start from others.
    """
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if sweep and run:
        return f"sweep-{sweep}-{run}-{command}"
    job = SlurmJob.here()
    if job is not None:
        return f"slurm-{job.id}-{command}"
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID")
    if torchrun is None:
        return None
    if torchrun == "none" or _is_uuid(torchrun):  # nobody gave it an id
        return _first_said(f"{dated(command)}-{torchrun[:4]}")
    return f"torchrun-{re.sub(r'[^A-Za-z0-9.-]', '_', torchrun)}-{command}"


def dated(command: str) -> str:
    """A name by the time."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{command}"


def _first_said(name: str) -> str:
    """What the first of torchrun's processes to ask said; also after torchrun restarts them."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
    said: bytes = store.compare_set("itm_lightning/run", "", name)
    return said.decode()


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
