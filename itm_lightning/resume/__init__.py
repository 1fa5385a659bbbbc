"""Runs that are stopped at any moment, and resumed as if they had not been."""

from itm_lightning.resume.best_checkpoint import AtomicCheckpointIO, BestCheckpoint
from itm_lightning.resume.last_checkpoint import Cadence, LastCheckpoint

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "Cadence", "LastCheckpoint"]
