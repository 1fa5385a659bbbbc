"""SGRAF: similarity vectors, reasoned on a graph (SGR) or filtered by attention (SAF)."""

from itm_lightning.similarity.sgraf.saf import SAF
from itm_lightning.similarity.sgraf.sgr import SGR
from itm_lightning.similarity.sgraf.state import from_sgraf_state

__all__ = ["SAF", "SGR", "from_sgraf_state"]
