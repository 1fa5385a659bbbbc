"""Scenes: photos of coloured shapes with captions, made in process; nothing to download."""

from itm_lightning.data.sources.scenes.source import Scenes

__all__ = ["Scenes"]
