"""JSON that a user points at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from itm_lightning.errors import InputError, one_line


def read_json(path: Path, flag: str) -> Any:
    """What the file holds.

    Args:
        path: the file.
        flag: where the user said so.

    Raises:
        InputError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"annotations {path} are missing: set {flag}") from None
        raise InputError(f"{path} ({flag}) cannot be read: {one_line(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {one_line(error)}") from error
