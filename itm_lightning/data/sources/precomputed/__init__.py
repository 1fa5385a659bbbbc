"""Precomputed: regions from SCAN's files, or as ``lightning extract`` keeps them."""

from itm_lightning.data.sources.precomputed.source import Precomputed

__all__ = ["Precomputed"]
