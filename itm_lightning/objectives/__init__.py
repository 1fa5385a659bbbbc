"""Objectives: losses on the score matrix."""

from itm_lightning.objectives.base import Objective, negatives_mask
from itm_lightning.objectives.infonce import InfoNCE
from itm_lightning.objectives.triplet import Triplet
from itm_lightning.objectives.weighted import WeightedSum

__all__ = ["InfoNCE", "Objective", "Triplet", "WeightedSum", "negatives_mask"]
