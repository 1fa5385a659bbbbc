"""Word vectors from a text file, as GloVe and word2vec write them."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from pathlib import Path

from itm_lightning.errors import InputError


def check_vectors(path: str, width: int) -> None:
    """Checks the first vector of a file, without reading the rest.

    Raises:
        InputError: the file is missing, empty, or its vectors are not ``width`` numbers wide.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no word vectors file {path}; give one in GloVe's text format")
    number, line = next(_lines(path), (1, ""))
    found = line.count(" ")
    if found != width:
        raise InputError(
            f"{path}, line {number}: a vector of {found} numbers where word_dim is {width}; "
            "set word_dim to the width of the file's vectors"
        )


def read_vectors(path: str, words: Container[str], width: int) -> dict[str, list[float]]:
    """The vectors of the ``words`` that the file has.

    A first line ``count width`` is skipped. The first vector of a word is used.

    Raises:
        InputError: a line is malformed; the message names it.
    """
    check_vectors(path, width)
    vectors: dict[str, list[float]] = {}
    for number, line in _lines(path):
        # checking the first word is cheap, and avoids splitting most of a few million lines
        if line.count(" ") == width and line.partition(" ")[0] not in words:
            continue
        word, *values = line.rsplit(" ", width)  # a few of GloVe's words contain spaces
        vector = _numbers(values)
        if len(vector) != width or _numbers(word.split(" ")[1:]):
            raise InputError(f"{path}, line {number}: not a word and {width} numbers")
        if word in words:
            vectors.setdefault(word, vector)
    return vectors


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The file's lines with their numbers, without word2vec's header and blank lines."""
    with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            is_header = number == 1 and [part.isdigit() for part in line.split()] == [True, True]
            if not is_header and line.strip():
                yield number, line.rstrip()


def _numbers(values: list[str]) -> list[float]:
    """The values as finite numbers; empty if one of them is not a finite number."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
