"""What a Matcher needs to train."""

from itm_lightning.training.schedules import WarmupCosine

__all__ = ["WarmupCosine"]
