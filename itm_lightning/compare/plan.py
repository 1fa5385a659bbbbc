"""What a comparison trains: a job for each head and seed, and the settings each head needs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itm_lightning import registry
from itm_lightning.compare.variants import full_label, labels_of
from itm_lightning.errors import InputError
from itm_lightning.resume.run import Run
from itm_lightning.utils.text_files import read_yaml

FEATURES = "features"  # the folder within --output that `lightning extract` fills
TEXTS = "texts"  # the folder within --output in which a frozen text encoder keeps its tokens
Flags = tuple[str, ...]


@dataclass(frozen=True)
class Head:
    """A similarity, and what is trained of it.

    Attributes:
        label: differs from all others.
        name: of its runs' folders; the same whatever it is compared with.
        value: of ``--model.similarity``.
        trials: further flags of a fit; where there are several, the best on val is taken.
    """

    label: str
    name: str
    value: str
    trials: tuple[Flags, ...] = ((),)


@dataclass(frozen=True)
class Job:
    """One run of ``lightning``.

    Attributes:
        arguments: of the command line.
        folder: the run's; its log is beside it.
    """

    arguments: Flags
    folder: Path

    @property
    def command(self) -> list[str]:
        """The command line, with this Python."""
        return [sys.executable, "-m", "itm_lightning", *self.arguments]

    @property
    def log(self) -> Path:
        """The file that takes what it prints."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def is_finished(self) -> bool:
        """Whether it is a fit that ended; an extraction looks itself for what is left to do."""
        return bool(Run(self.folder, "fit").state.get("finished", False))


@dataclass(frozen=True)
class Plan:
    """The jobs of a comparison.

    Attributes:
        heads: what is compared.
        seeds: each head is trained with each of them.
        flags: of every fit: the configs, and what the user passes through.
        output: the comparison's folder.
        extracts: whether the frozen image encoder runs once for all, into ``features``.
        stores: whether the frozen text encoder runs once for all, into ``texts``.
    """

    heads: tuple[Head, ...]
    seeds: tuple[int, ...]
    flags: Flags
    output: Path
    extracts: bool = False
    stores: bool = False

    def job(self, head: Head, seed: int, trial: int = 0) -> Job:
        """The fit of a head with a seed, in ``<output>/runs/<name>[-trial<n>]-<seed>``."""
        tried = f"-trial{trial + 1}" if len(head.trials) > 1 else ""
        folder = self.output / "runs" / f"{head.name}{tried}-{seed}"
        own = ["--model.similarity", head.value, *head.trials[trial]]
        run = ["--trainer.default_root_dir", str(folder.parent), "--run_name", folder.name]
        data = ["--data.source", _precomputed(self.output / FEATURES)] if self.extracts else []
        store = ["--model.text_encoder.store", str(self.output / TEXTS)] if self.stores else []
        seeded = ["--seed_everything", str(seed)]
        return Job(("fit", *self.flags, *own, *data, *store, *seeded, *run), folder)

    @property
    def extraction(self) -> Job:
        """The run of the frozen image encoder over all images."""
        folder = self.output / FEATURES
        return Job(("extract", *self.flags, "--output", str(folder)), folder)

    def jobs(self) -> Iterator[Job]:
        """The fits, seed by seed: whenever it is stopped, the heads have equally many.

        Raises:
            InputError: a head's settings are to be searched, so that the jobs are not known yet.
        """
        for head in self.heads:
            if len(head.trials) > 1:
                raise InputError(
                    f"--print_jobs: {head.label} has {len(head.trials)} trials, of which the best "
                    "is not known yet; give --settings with one a head"
                )
        for seed in self.seeds:
            for head in self.heads:
                yield self.job(head, seed)


def heads_of(similarities: Sequence[Any], settings: Mapping[str, Any]) -> tuple[Head, ...]:
    """The heads to compare.

    Args:
        similarities: class names, or ``{class_path, init_args}``.
        settings: by label, what a head needs for itself: the fit's keys, dotted or nested, or a
            list of such trials.

    Raises:
        InputError: a head is unknown or given twice, settings are for no head, or heads have
            unequally many trials.
    """
    for similarity in similarities:
        path = similarity.get("class_path") if isinstance(similarity, Mapping) else similarity
        if not isinstance(path, str):
            raise InputError(f"--similarities: {similarity!r} is no class name or class_path")
        if "." not in path:
            registry.get("similarity", path)
    labels = labels_of(similarities)
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"--similarities has {label} twice")
    if unknown := sorted(set(settings) - set(labels)):
        raise InputError(f"--settings is for {unknown[0]!r}; the heads are {', '.join(labels)}")
    names = [re.sub(r"[^\w.+-]+", "-", full_label(each)).strip("-.") for each in similarities]
    heads = []
    for label, name, similarity in zip(labels, names, similarities, strict=True):
        if names.count(name) > 1:
            raise InputError(f"--similarities has two heads whose runs would be named {name}")
        value = similarity if isinstance(similarity, str) else json.dumps(similarity)
        own = settings.get(label, {})
        trials = own if isinstance(own, list) else [own]
        heads.append(
            Head(label, name, value, tuple(tuple(_flags(trial, label)) for trial in trials))
        )
    numbers = {head.label: len(head.trials) for head in heads}
    if len(set(numbers.values())) > 1 or not all(numbers.values()):
        counts = ", ".join(f"{label} {number}" for label, number in numbers.items())
        raise InputError(f"--settings: every head needs equally many trials; there are {counts}")
    return tuple(heads)


def read_settings(path: Path | None) -> dict[str, Any]:
    """What each head needs for itself, by label.

    Args:
        path: a YAML file of labels; or a folder with a file ``<label>.yaml`` a head.

    Raises:
        InputError: it is missing, or no YAML of this form.
    """
    if path is None:
        return {}
    if not path.exists():
        raise InputError(f"--settings {path}: there is no such file or folder")
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    read = {file.stem: read_yaml(file) for file in files}
    found = read if path.is_dir() else read[path.stem]
    if not isinstance(found, dict):
        raise InputError(f"--settings {path} must map heads to settings of a fit")
    return found


def _flags(settings: Any, label: str, prefix: str = "") -> Iterator[str]:
    """Settings as flags of a fit; a part, which has a class_path, stays one value."""
    if not isinstance(settings, Mapping):
        raise InputError(f"--settings: {label} must have keys of a fit, not {settings!r}")
    for key, value in settings.items():
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from _flags(value, label, f"{prefix}{key}.")
        else:
            yield from (
                f"--{prefix}{key}",
                value if isinstance(value, str) else json.dumps(value),
            )


def _precomputed(root: Path) -> str:
    return json.dumps({"class_path": "Precomputed", "init_args": {"root": str(root)}})


def can_store(config: Mapping[str, Any]) -> bool:
    """Whether a text encoder of a fit's config can run once over each text for all heads."""
    encoder = config["model"]["text_encoder"]
    arguments = encoder.get("init_args") or {}
    return (
        encoder["class_path"].endswith(".PretrainedText")
        and arguments.get("trainable") is False
        and not arguments.get("word_noise")
        and arguments.get("store") is None
    )


def can_extract(config: Mapping[str, Any]) -> bool | str:
    """Whether an image encoder can run once for all heads.

    Args:
        config: of a fit.

    Returns:
        The reason where its trunk is frozen and it still cannot.
    """
    encoder = config["model"]["image_encoder"].get("init_args") or {}
    source = config["data"]["source"]
    if encoder.get("trainable") is not False or source["class_path"].endswith(".Precomputed"):
        return False
    if encoder.get("weights", "its own") is None:
        return False  # they are drawn at random, with each seed others
    if encoder.get("augment"):
        return "The frozen image encoder augments, so every run encodes the images itself."
    if (source.get("init_args") or {}).get("streaming"):
        return "The source is a stream, so every run encodes the images itself."
    return True
