"""What jsonargparse says of bad arguments, in one line that helps."""

from __future__ import annotations

import re

from itm_lightning.registry import KINDS, unknown_part

# The keys of YAML that take a part are named as the kinds of the registry.
_KEY = re.compile(r'Parser key "(?P<key>[\w.]+)":\s*(?P<rest>.*)', re.DOTALL)
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\S+)")


def one_line(message: str) -> str:
    """The message in one line; where a class is unknown, it lists those there are."""
    found = _KEY.search(message)
    if found is None:
        return " ".join(message.split())
    key, rest = found["key"], found["rest"]
    kind = key.rpartition(".")[2]
    unknown = _UNKNOWN_CLASS.search(rest)
    if unknown and kind in KINDS:
        rest = unknown_part(kind, unknown["name"])
    return f"{key}: {' '.join(rest.split())}"
