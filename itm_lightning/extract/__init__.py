"""``lightning extract``: runs an image encoder over a source once, and keeps its tokens."""

from itm_lightning.extract.extraction import extract

__all__ = ["extract"]
