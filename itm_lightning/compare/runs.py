"""Trained runs, read from their folders, and whether their scores may be compared."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from itm_lightning.data import Record, Source
from itm_lightning.data.sources.tables import read_json
from itm_lightning.errors import InputError, refused
from itm_lightning.part import from_config
from itm_lightning.resume.run import Run

#: Commands that write a split's results, by the split.
_COMMANDS = {"val": "validate", "test": "test"}


@dataclass(frozen=True)
class Outcome:
    """One trained run, scored on one split.

    Attributes:
        folder: the run's.
        seed: its ``seed_everything``.
        config: its ``config.yaml``.
        results: its ``<split>_results.json``.
        per_query: the arrays of its ``<split>_ranks.npz``, one row a query; ranks start at 1.
        history: the rows of its ``metrics.csv``, numbers only.
        train_seconds: how long it trained, over all of its starts; None where it is unknown.
    """

    folder: Path
    seed: int
    config: dict[str, Any]
    results: dict[str, Any]
    per_query: dict[str, np.ndarray]
    history: list[dict[str, float]]
    train_seconds: float | None

    @property
    def scores(self) -> dict[str, float]:
        """By name: ``i2t_R@1``, …, ``rsum``."""
        return dict(self.results["scores"])

    @property
    def checkpoint(self) -> Path | None:
        """Its best checkpoint; None where the run has none, as one that was never trained."""
        path = self.folder / "checkpoints" / "best.ckpt"
        return path if path.is_file() else None

    def source(self) -> Source:
        """The dataset that was scored.

        Raises:
            InputError: its class cannot be imported.
        """
        source = from_config(self.results["dataset"])
        assert isinstance(source, Source)  # the results name nothing else here
        return source


@dataclass(frozen=True)
class Variant:
    """One value of what is varied, for example a head, with all its seeds.

    Attributes:
        label: differs from all others.
        outcomes: one a seed.
        error: why it has none.
    """

    label: str
    outcomes: tuple[Outcome, ...]
    error: str | None = None


def split_of(folders: Sequence[Path]) -> str:
    """The split to compare: test where every run that was scored has been on it, and else val."""
    tested = [folder for folder in folders if (folder / "test_results.json").is_file()]
    validated = [folder for folder in folders if (folder / "val_results.json").is_file()]
    return "test" if tested and set(validated) <= set(tested) else "val"


def read_outcome(folder: Path, split: str) -> Outcome:
    """Reads a run.

    Raises:
        InputError: the folder holds no run, or one that was not scored on the split; the message
            names the command that does it.
    """
    run = Run(folder, "")
    if not run.state or not run.config:
        raise InputError(f"{folder} is not the folder of a run: it has no run.json and config.yaml")
    results, ranks = folder / f"{split}_results.json", folder / f"{split}_ranks.npz"
    for path in (results, ranks):
        if not path.is_file():
            raise InputError(
                f"{path} is missing: compare a folder of `lightning {_COMMANDS[split]} --ckpt_path "
                f"{folder / 'checkpoints' / 'best.ckpt'}`, or of a fit that has finished"
            )
    with refused(f"{folder} has a file that is not as a run wrote it"):
        timing = folder / "timing.json"
        seconds = read_json(timing, "--runs")["train_seconds"] if timing.is_file() else None
        outcome = Outcome(
            folder=folder,
            seed=int(run.config.get("seed_everything") or 0),
            config=run.config,
            results=read_json(results, "--runs"),
            per_query=_arrays(ranks),
            history=_history(folder / "metrics.csv"),
            train_seconds=None if seconds is None else float(seconds),
        )
        _check_written(outcome, split)
    return outcome


def _check_written(outcome: Outcome, split: str) -> None:
    results, arrays = outcome.results, outcome.per_query
    sections = [outcome.config["model"], outcome.config["data"], results["scores"]]
    parts = [results["dataset"], results["protocol"]]
    if not all(isinstance(each, dict) for each in (*sections, *(p["init_args"] for p in parts))):
        raise ValueError("a number or a text in place of names and values")
    if results["split"] != split or not isinstance(results["images"] + results["texts"], int):
        raise ValueError(f"results of {results['split']!r}")
    if any(not isinstance(score, int | float) for score in results["scores"].values()):
        raise ValueError("scores that are no numbers")
    for way in ("i2t", "t2i"):
        if arrays[f"{way}_ids"].shape != arrays[f"{way}_ranks"].shape[:1]:
            raise ValueError(f"{way}: not as many ranks as queries")


def _arrays(path: Path) -> dict[str, Any]:
    with refused(f"{path} is damaged: score the run anew"), np.load(path) as arrays:
        return dict(arrays)


def _history(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", errors="replace") as lines:
        return [_numbers(row) for row in csv.DictReader(lines)]


def _numbers(row: dict[str, str]) -> dict[str, float]:
    found = {}
    for key, value in row.items():
        try:
            found[key] = float(value)
        except (TypeError, ValueError):
            continue  # nothing was logged of it at this step
    return found


def check_comparable(outcomes: Sequence[Outcome]) -> tuple[Record, ...]:
    """Checks that all runs answered the same queries over the same images and texts.

    Sources may differ, as photos and what an encoder made of them, if their records are the same.

    Returns:
        The records of the split; none where the data is not there any more.

    Raises:
        InputError: two runs differ in split, protocol, queries or data; the message names the
            difference.
    """
    first = outcomes[0]
    for other in outcomes[1:]:
        for what in ("split", "protocol", "images", "texts"):
            one, two = (_brief(outcome.results[what]) for outcome in (first, other))
            if one != two:
                _refuse(first, other, f"of another {what}: {one} and {two}")
        for name in ("i2t_ids", "t2i_ids"):
            one, two = (np.sort(outcome.per_query[name]) for outcome in (first, other))
            if not np.array_equal(one, two):
                _refuse(first, other, f"of other queries: their {name} differ")
    return _same_records(outcomes)


def _same_records(outcomes: Sequence[Outcome]) -> tuple[Record, ...]:
    distinct = {json.dumps(run.results["dataset"], sort_keys=True): run for run in outcomes}
    runs = list(distinct.values())
    try:
        read = [tuple(run.source().records(run.results["split"])) for run in runs]
    except InputError as error:
        if len(runs) > 1:
            _refuse(runs[0], runs[1], f"of other data, and one of the two cannot be read: {error}")
        return ()
    texts = [{i: text for record in records for i, text in _texts(record)} for records in read]
    for other, its_texts in zip(runs[1:], texts[1:], strict=True):
        for key, text in texts[0].items():
            if its_texts.get(key) != text:
                what = f"text {key[1]} of image {key[0]} is {text!r} and {its_texts.get(key)!r}"
                _refuse(runs[0], other, f"of other data: {what}")
    return read[0]


def _texts(record: Record) -> list[tuple[tuple[int, int], str]]:
    ids = [(record.image_id, text_id) for text_id in record.text_ids]
    return list(zip(ids, record.texts, strict=True))


def _brief(value: Any) -> Any:
    """A part as ``Coco1K(folds=5)``; any other value unchanged."""
    if not isinstance(value, dict):
        return value
    arguments = ", ".join(f"{k}={v}" for k, v in value["init_args"].items() if v is not None)
    return f"{class_name(value)}({arguments})" if arguments else class_name(value)


def class_name(part: Mapping[str, Any]) -> str:
    """A part's class, of its config, without the module."""
    return str(part["class_path"]).rpartition(".")[2]


def _refuse(first: Outcome, other: Outcome, difference: str) -> None:
    raise InputError(
        f"{first.folder} and {other.folder} cannot be compared, their scores are {difference}"
    )
