"""``lightning extract``: run an image encoder over a source once, and keep what it makes."""

from itm_lightning.extract.extraction import extract

__all__ = ["extract"]
