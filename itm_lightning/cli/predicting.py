"""Flags of ``predict``: which split is searched, for what, and how many answers are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from itm_lightning.data import ITMDataModule
from itm_lightning.data.records import fault_of_text
from itm_lightning.errors import InputError
from itm_lightning.evaluating import OwnQueries, RetrievalModule
from itm_lightning.utils.foreign_files import read_text

_UNSET = {"split": None, "k": 10, "images": None, "texts": None}


def add_predict_flags(parser: ArgumentParser) -> None:
    """Adds ``--predict.split``, ``.k``, ``.images`` and ``.texts``."""
    group = parser.add_argument_group("What predict retrieves")
    group.add_argument(
        "--predict.split",
        type=str | None,
        default=_UNSET["split"],
        help="The split that is searched: train, val or test; by default test, if there is one.",
    )
    group.add_argument(
        "--predict.k",
        type=int,
        default=_UNSET["k"],
        help="How many answers each query gets.",
    )
    group.add_argument(
        "--predict.images",
        type=str,
        nargs="+",
        metavar="FILE",
        help="Own images, whose nearest texts are wanted, in place of the split's queries.",
    )
    group.add_argument(
        "--predict.texts",
        type=str,
        nargs="+",
        metavar="TEXT",
        help="Own texts, whose nearest images are wanted; NAME.txt is a file with one a line.",
    )


def set_prediction(
    flags: dict[str, Any], command: str, module: RetrievalModule, data: ITMDataModule
) -> None:
    """Tells the model and the data what ``predict`` is to find.

    Args:
        flags: the values of the flags.
        command: the subcommand.
        module: whose ``k`` and ``own_queries`` are set.
        data: whose ``predict_split`` is set.

    Raises:
        InputError: a flag is given to another command, or its value makes no sense.
    """
    if command != "predict":
        given = [name for name, value in _UNSET.items() if flags[name] != value]
        if given:
            raise InputError(f"--predict.{given[0]} is for predict; the command is {command}")
        return
    if flags["k"] < 1:
        raise InputError(f"--predict.k is {flags['k']}; it must be at least 1")
    module.k = flags["k"]
    if flags["split"] is not None:
        data.predict_split = flags["split"]
    images = tuple(_listed(flags["images"] or ()))
    texts = tuple(text for item in _listed(flags["texts"] or ()) for text in _lines(item))
    if missing := next((name for name in images if not Path(name).is_file()), None):
        raise InputError(f"--predict.images: there is no file {missing}")
    if flags["texts"] and not texts:
        raise InputError("--predict.texts names a file without a text")
    if fault := next(filter(None, map(fault_of_text, texts)), None):
        raise InputError(f"a text of --predict.texts is {fault}")
    module.own_queries = OwnQueries(images, texts)


def _listed(values: Sequence[str]) -> Iterator[str]:
    """The values; one that is a JSON list of strings counts as these strings."""
    for value in values:
        try:
            listed = json.loads(value)
        except (ValueError, RecursionError):  # a text such as "[blurry] a dog"
            listed = None
        is_list = isinstance(listed, list) and all(isinstance(each, str) for each in listed)
        yield from listed if is_list else [value]


def _lines(item: str) -> list[str]:
    """The text, or those of a file ``NAME.txt``."""
    if not item.endswith(".txt"):
        return [item]
    try:
        text = read_text(Path(item))
    except FileNotFoundError:
        raise InputError(f"--predict.texts: there is no file {item}") from None
    # not splitlines: texts may hold other separators, such as U+2028
    return [line.strip() for line in text.split("\n") if line.strip()]
