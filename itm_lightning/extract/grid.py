"""Where in the photo a trunk's tokens are."""

from __future__ import annotations

import math

_MOST_OTHERS = 8  # class token and registers


def grid_of(tokens: int, height: int, width: int) -> dict[str, int] | None:
    """The grid of square cells that ``tokens`` form over pixels ``(height, width)``.

    The grid comes last, row by row; before it may be a class token and registers, as the vision
    transformers have them.

    Returns:
        ``rows``, ``columns``, and ``first``, the first token that belongs to the grid; ``None``
        where no such grid is.
    """
    for first in range(min(tokens, _MOST_OTHERS + 1)):
        rows = math.isqrt((tokens - first) * height // width)
        columns, rest = divmod(tokens - first, rows) if rows else (0, 1)
        if not rest and rows * width == columns * height:
            return {"rows": rows, "columns": columns, "first": first}
    return None
