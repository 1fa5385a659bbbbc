"""What jsonargparse says of bad arguments, in one line that helps."""

from __future__ import annotations

import re

from itm_lightning.registry import KINDS, unknown_part


def one_line(message: str) -> str:
    """The message in one line; where a class is unknown, it lists those there are."""
    return " ".join(message.split())
