"""Image-text matching you can take apart.

What needs torch is imported when it is first asked for: ``lightning --help`` answers at once.
"""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m itm_lightning`: no file of the current folder takes the place of a package
    del sys.path[0]

import importlib
from typing import TYPE_CHECKING, Any

from itm_lightning.registry import get, list_registered, register

if TYPE_CHECKING:  # the same names as in _MODULES
    from itm_lightning import metrics, objectives, similarity
    from itm_lightning.data import ITMDataModule
    from itm_lightning.ensemble import EnsembleMatcher
    from itm_lightning.matcher import Matcher
    from itm_lightning.types import Batch, Features

__all__ = [
    "Batch",
    "EnsembleMatcher",
    "Features",
    "ITMDataModule",
    "Matcher",
    "get",
    "list_registered",
    "metrics",
    "objectives",
    "register",
    "similarity",
]

_MODULES = {
    "Batch": "types",
    "EnsembleMatcher": "ensemble",
    "Features": "types",
    "ITMDataModule": "data",
    "Matcher": "matcher",
}


def __getattr__(name: str) -> Any:
    """A public name that has not been imported yet."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return importlib.import_module(f"{__name__}.{name}")
