"""Retrieval: everything against everything."""

from __future__ import annotations

from itm_lightning.metrics.protocols.base import Protocol
from itm_lightning.registry import register


@register("protocol")
class Retrieval(Protocol):
    """Every image of the split against every text of the split, however many."""
