"""What another library's error says, fit for one line."""

from __future__ import annotations


def one_line(error: Exception, most: int = 300) -> str:
    """The error's message without line breaks, cut at ``most`` characters; its type if empty."""
    return " ".join(str(error).split())[:most] or type(error).__name__
