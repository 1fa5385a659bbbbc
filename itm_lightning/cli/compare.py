"""``lightning compare``: trains similarity measures alike, and compares what was trained."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from typing_extensions import override

from itm_lightning import registry
from itm_lightning.cli.command import ITMCLI
from itm_lightning.cli.errors import CommandParser
from itm_lightning.cli.resumed_config import check_resumed_config
from itm_lightning.compare.findings import Findings, find, title_of, write
from itm_lightning.compare.jobs import printed, train
from itm_lightning.compare.measurements import Measurements
from itm_lightning.compare.pictures import save_pictures
from itm_lightning.compare.plan import Job, Plan, can_extract, can_store, heads_of, read_settings
from itm_lightning.compare.report import ImageOf, write_report
from itm_lightning.compare.runs import Variant, read_outcome, split_of
from itm_lightning.compare.table import to_print
from itm_lightning.compare.variants import variants_of
from itm_lightning.compare.workspace import checked_target, publish
from itm_lightning.data import ImageSource, Source
from itm_lightning.errors import InputError, one_line
from itm_lightning.part import from_config, to_config
from itm_lightning.resume.run import Run
from itm_lightning.utils.text_files import parse_yaml

_DESCRIPTION = """
Trains and tests similarity measures on the same encoders, data, splits and budget, and compares
them: comparison.csv, comparison.md, ranks.npz and report.html in --output. Any other flag goes to
every `lightning fit` (--data.source.train 640). Stopped, the same command goes on.

With --runs it trains nothing, and compares what has been trained, whatever differs.
"""
_OF_TRAINING = ("config", "similarities", "settings", "seeds", "print_jobs")
_OWN = ("--seed_everything", "--run_name", "--trainer.default_root_dir", "--model.similarity")


def _parser() -> CommandParser:
    parser = CommandParser("compare", _DESCRIPTION)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of the comparison and its runs")
    add("--config", action="append", default=[], help="of the fits; may be given several times")
    add(
        "--similarities",
        type=_yaml,
        metavar="LIST",
        help="class names or {class_path, init_args}: '[Cosine, CrossAttention]'",
    )
    add(
        "--seeds",
        type=_yaml,
        metavar="LIST",
        help="train each head with each of them: '[1, 2, 3]' (default: [0])",
    )
    add(
        "--settings",
        type=Path,
        help="YAML of what a head needs for itself, by its label: "
        "'CrossAttention: {model.optimizer.init_args.lr: 5.0e-4}', or a list of trials a head, of "
        "which the best on val with the first seed is taken; or a folder of <label>.yaml",
    )
    add(
        "--print_jobs",
        nargs="?",
        choices=("commands", "slurm", "sweep"),
        const="commands",
        help="train nothing: print the runs as commands, a SLURM array or a W&B sweep; once they "
        "have finished, the same command without this flag only compares",
    )
    add("--runs", nargs="+", type=Path, default=[], help="run folders to compare")
    add("--split", choices=("val", "test"), help="default: test where every run has been tested")
    add(
        "--hub_correction",
        type=_yaml,
        metavar="NAME",
        help="also score with hubs corrected, from the training split: NNN, CSLS, InvertedSoftmax",
    )
    add(
        "--explanations",
        type=int,
        default=0,
        metavar="N",
        help="also measure what the heads look at, on N images: takes seconds an image",
    )
    add("--images", type=Path, help="folder of the photos, where the runs read extracted features")
    add("--wandb", metavar="ENTITY/PROJECT", help="also make a report and a workspace in W&B")
    return parser


def _yaml(text: str) -> Any:
    try:
        return parse_yaml(text, text)
    except InputError as error:  # argparse names the flag
        raise argparse.ArgumentTypeError(one_line(error)) from error


def main(args: list[str]) -> None:
    """Runs ``lightning compare``.

    Raises:
        InputError: something given is wrong, or nothing could be compared.
    """
    chosen, others = _parser().parse_known_args(args)
    correction = _correction(chosen.hub_correction)
    target = checked_target(chosen.wandb) if chosen.wandb else None
    if chosen.runs:
        factor, variants, notes = _trained(chosen, others)
        source = variants[0].outcomes[0].source()
        _check_photos(source, chosen)
    else:
        plan, source, notes = _planned(chosen, others)
        _check_photos(source, chosen)
        if chosen.print_jobs:
            print(printed(plan, chosen.print_jobs))
            return
        try:
            variants, more = train(plan, chosen.split)
        except KeyboardInterrupt:
            print("stopped; the same command goes on", file=sys.stderr)
            sys.exit(130)
        factor, notes = "similarity", [*notes, *more]
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / "measurements.json"
    measurements = Measurements(path, correction, chosen.explanations, source)
    findings = find(factor, variants, notes, measurements)
    write(findings, chosen.output)
    write_report(
        findings, _image_of(findings, source, chosen.images), chosen.output / "report.html"
    )
    save_pictures(findings, chosen.output / "pictures")
    Console().print(to_print(findings.rows, title_of(findings)))
    print(f"wrote {chosen.output / 'report.html'}")
    if target is not None:
        print(publish(findings, *target, chosen.output / "report.html"))


def _check_photos(source: Source, chosen: argparse.Namespace) -> None:
    if chosen.explanations < 0:
        raise InputError(f"--explanations is {chosen.explanations}: give a number of images")
    if chosen.images is not None and not chosen.images.is_dir():
        raise InputError(f"--images {chosen.images} is not a folder: give the one with the photos")
    if chosen.explanations and not isinstance(source, ImageSource):
        raise InputError(
            f"--explanations needs photos, and {type(source).__name__} has only regions: compare "
            "with --config, whose source has them, or run lightning explain --measure"
        )


def _image_of(findings: Findings, source: Source, folder: Path | None) -> ImageOf:
    """Gives the split's images: those in the folder, or the source's own."""
    records = {record.image_id: record for record in findings.records}

    def image_of(image_id: int) -> Path | Image.Image | None:
        if image_id not in records:
            return None
        if folder is not None:
            return folder / records[image_id].location
        return source.image(records[image_id]) if isinstance(source, ImageSource) else None

    return image_of


def _correction(given: Any) -> dict[str, Any] | None:
    """A hub correction's config, of its name or ``{class_path, init_args}``."""
    if given is None:
        return None
    part = given if isinstance(given, dict) else {"class_path": given}
    name, arguments = part.get("class_path"), part.get("init_args", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError(f"--hub_correction {given!r} is no class name or class_path")
    try:
        made = registry.get("hub_correction", name)(**arguments)
    except TypeError as error:
        raise InputError(f"--hub_correction {name}: {one_line(error)}") from error
    config: dict[str, Any] = to_config(made)
    return config


def _trained(
    chosen: argparse.Namespace, others: Sequence[str]
) -> tuple[str, tuple[Variant, ...], list[str]]:
    """The runs of ``--runs``."""
    ours = (f"--{name}" for name in _OF_TRAINING if getattr(chosen, name))
    if given := [*others, *ours]:
        raise InputError(f"--runs trains nothing: leave out {given[0]}")
    split = chosen.split or split_of(chosen.runs)
    return variants_of([read_outcome(folder, split) for folder in chosen.runs])


def _planned(chosen: argparse.Namespace, others: Sequence[str]) -> tuple[Plan, Source, list[str]]:
    """What is to be trained, checked before anything is; the data's source; and notes."""
    if not isinstance(chosen.similarities, list) or not chosen.similarities:
        raise InputError(
            "--similarities is a list of heads to train: '[Cosine, Bilinear]'; or --runs"
        )
    seeds = [0] if chosen.seeds is None else chosen.seeds
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise InputError(f"--seeds is a list of whole numbers, not {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds has a seed twice, {seeds}: name each once")
    for flag in others:
        if flag.partition("=")[0] in _OWN:
            raise InputError(
                f"compare sets {flag.partition('=')[0]} of every run itself: leave it out"
            )
    heads = heads_of(chosen.similarities, read_settings(chosen.settings))
    flags = *(text for path in chosen.config for text in ("--config", path)), *others
    plan = Plan(heads, tuple(dict.fromkeys(seeds)), flags, chosen.output)
    parser = _FitParser(plan.job(heads[0], seeds[0]).arguments[1:])
    config = parser.plain_config()
    source: Source = from_config({"init_args": {}, **config["data"]["source"]})
    for split in ("train", "val", chosen.split or "val"):
        if not source.records(split):
            raise InputError(f"{type(source).__name__} has no {split} split")
    extracts = can_extract(config)
    plan = replace(plan, extracts=extracts is True, stores=can_store(config))
    for head in heads:
        for trial in range(len(head.trials)):
            for seed in seeds:
                job = plan.job(head, seed, trial)
                check_resumed_config(Run(job.folder, "fit"), parser.config_of(job))
    return plan, source, [extracts] if isinstance(extracts, str) else []


class _FitParser(ITMCLI):
    """Parses the arguments of a fit, and runs nothing."""

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(args, run=False)

    @override
    def before_instantiate_classes(self) -> None:
        pass

    instantiate_classes = before_instantiate_classes

    def config_of(self, job: Job) -> dict[str, Any]:
        """The config of a fit.

        Raises:
            InputError: it would be refused.
        """
        self.config = self.parser.parse_args(list(job.arguments[1:]))
        return self.plain_config()
