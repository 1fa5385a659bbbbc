"""Runs that are stopped, at any moment, and go on as if they had not been."""

from itm_lightning.resume.atomic_io import AtomicCheckpointIO
from itm_lightning.resume.best_checkpoint import BestCheckpoint
from itm_lightning.resume.cadence import Cadence
from itm_lightning.resume.last_checkpoint import LastCheckpoint

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "Cadence", "LastCheckpoint"]
