"""Scenes: generated images of coloured shapes with captions; there is nothing to download."""

from itm_lightning.data.sources.scenes.parser import Meaning, Thing, parse
from itm_lightning.data.sources.scenes.source import Scenes

__all__ = ["Meaning", "Scenes", "Thing", "parse"]
