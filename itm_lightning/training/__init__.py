"""What a Matcher needs to train."""

from itm_lightning.training.rbm_pretraining import RBMPretraining
from itm_lightning.training.schedules import WarmupCosine

__all__ = ["RBMPretraining", "WarmupCosine"]
