"""Image-text matching you can take apart."""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m itm_lightning`: no file of the current folder takes the place of a package
    del sys.path[0]

if "".join(sys.argv[:1]).endswith(("-m", "lightning")):
    # the command: whoever presses Ctrl-C within the seconds of these imports needs no traceback
    sys.excepthook = lambda kind, *error: (
        print("stopped", file=sys.stderr)
        if kind is KeyboardInterrupt
        else sys.__excepthook__(kind, *error)
    )

import itm_lightning.encoders
import itm_lightning.pooling  # noqa: F401  the imports register the parts
from itm_lightning import metrics, objectives, similarity
from itm_lightning.data import ITMDataModule
from itm_lightning.ensemble import EnsembleMatcher
from itm_lightning.matcher import Matcher
from itm_lightning.registry import get, list_registered, register
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
