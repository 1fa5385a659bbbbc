"""Precomputed: regions in SCAN's files, or in a folder written by ``lightning extract``."""

from itm_lightning.data.sources.precomputed.source import Precomputed

__all__ = ["Precomputed"]
