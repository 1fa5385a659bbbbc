"""What a run leaves behind, as Lightning callbacks."""

from itm_lightning.callbacks.measurements import Measurements
from itm_lightning.callbacks.predictions import RetrievalWriter
from itm_lightning.callbacks.progress import EpochLines, ModelTable
from itm_lightning.callbacks.results import Results, RunConfig
from itm_lightning.callbacks.wandb_media import WandbMedia
from itm_lightning.callbacks.wandb_run import WandbRun

__all__ = [
    "EpochLines",
    "Measurements",
    "ModelTable",
    "Results",
    "RetrievalWriter",
    "RunConfig",
    "WandbMedia",
    "WandbRun",
]
