"""The relevance judgements on COCO that the package ``eccv_caption`` brings along."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from itm_lightning.errors import InputError

_PACKAGE = "eccv_caption"


@dataclass(frozen=True)
class Judgements:
    """COCO ids of every query's correct answers.

    Attributes:
        i2t: image id → caption ids.
        t2i: caption id → image ids.
    """

    i2t: Mapping[int, frozenset[int]]
    t2i: Mapping[int, frozenset[int]]

    @property
    def most(self) -> int:
        """The most correct answers of a query."""
        return max(len(answers) for way in (self.i2t, self.t2i) for answers in way.values())


@functools.cache
def judgements(name: Literal["eccv", "cxc"]) -> Judgements:
    """Those of ECCV Caption (Chun et al. 2022) or of CxC (Parekh et al. 2021).

    Raises:
        InputError: the package is not installed.
    """
    # Only its files are wanted: importing it would want ujson and tqdm too.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise InputError(
            f"this protocol's annotation comes with the package {_PACKAGE}, which is not "
            f"installed: pip install {_PACKAGE}"
        )
    data = Path(package.origin).parent / "data"
    return Judgements(
        i2t=_read(data / f"{name}_image_to_caption.json"),
        t2i=_read(data / f"{name}_caption_to_image.json"),
    )


def _read(path: Path) -> dict[int, frozenset[int]]:
    table = json.loads(path.read_text(encoding="utf-8"))
    return {int(query): frozenset(map(int, answers)) for query, answers in table.items()}
