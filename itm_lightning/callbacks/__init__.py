"""What a run leaves behind, as Lightning callbacks."""

from itm_lightning.callbacks.predictions import RetrievalWriter
from itm_lightning.callbacks.progress import EpochLines
from itm_lightning.callbacks.results import Results, RunConfig

__all__ = ["EpochLines", "Results", "RetrievalWriter", "RunConfig"]
