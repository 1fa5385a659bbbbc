"""``lightning explain``: pages that show where a score comes from."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.cli.checkpoint_config import read_checkpoint
from itm_lightning.cli.early_args import option
from itm_lightning.cli.errors import CommandParser, OneLineParser
from itm_lightning.errors import InputError
from itm_lightning.explain import METHODS, Explanation, explain
from itm_lightning.explain.definitions import definitions, picture, table
from itm_lightning.explain.explanation import method_for
from itm_lightning.explain.measures import measure_explanations
from itm_lightning.explain.page import write_pages
from itm_lightning.explain.pairs import pairs_of_split
from itm_lightning.utils.images import as_image
from itm_lightning.utils.progress_bars import progress_bar

_DESCRIPTION = """
Shows where a score comes from: for each pair of an image and a text a page (open index.html in
--output) and a PNG, with a map over the image for every word. The pairs are --images and --texts:
the first image with the first text and so on where there are as many, else every image with every
text. Or those of a split: --split val --queries 20, with the data of the checkpoint, of which
--config and flags as for `lightning test` change any part (--data.source.root …). --measure then
also says how good the maps are, and writes measures.json and measures.png.
"""


def _parser() -> CommandParser:
    parser = CommandParser("explain", _DESCRIPTION)
    add = parser.add_argument
    add("--ckpt_path", nargs="+", required=True, help="one checkpoint, or several side by side")
    add("--images", nargs="+", default=[], metavar="FILE", help="your own images")
    add("--texts", nargs="+", default=[], metavar="TEXT", help="your own sentences")
    add("--split", choices=("train", "val", "test"), help="take pairs of a split instead")
    add("--queries", type=int, default=20, help="how many pairs of the split (default: 20)")
    add("--config", action="append", default=[], help="YAML with a section data, for --split")
    add("--measure", action="store_true", help="measure the explanations of --split, too")
    add("--output", type=Path, default=Path("explanations"), help="folder (default: explanations)")
    add(
        "--method",
        choices=METHODS,
        default="auto",
        help="auto: contributions where the head's score is a sum of parts, alignment where it "
        "aligns words and places, second_order for pooled heads, and else occlusion; gradient "
        "needs captum",
    )
    return parser


def main(args: list[str]) -> None:
    """Runs ``lightning explain``.

    Raises:
        InputError: a checkpoint, image, text or flag is at fault.
    """
    flags, others = _parser().parse_known_args(args)
    if unknown := [arg for arg in others if arg.startswith("--") and not arg.startswith("--data")]:
        raise InputError(f"{unknown[0]} is no flag of explain: see `lightning explain --help`")
    checkpoints = [read_checkpoint(Path(path), "--ckpt_path") for path in flags.ckpt_path]
    matchers = [Matcher.load_from_checkpoint(path) for path in flags.ckpt_path]
    for matcher in matchers:
        method_for(matcher.similarity, flags.method)
    data = _data_of_split(flags, others, checkpoints[0], matchers) if flags.split else None
    pairs = pairs_of_split(data, flags.split, flags.queries) if data else _own(flags)
    labels = _labels(flags.ckpt_path, matchers)
    if flags.measure:
        _measure(flags, data, dict(zip(labels, matchers, strict=True)))
    explained: list[list[Explanation]] = []
    for image, text in progress_bar(pairs, desc="explain", unit="pair"):
        explained.append([explain(each, image, text, flags.method)[0] for each in matchers])
    index = write_pages(explained, labels, flags.output)
    print(f"{len(explained)} pairs: {index}")


def _own(flags: argparse.Namespace) -> list[tuple[Image.Image, str]]:
    """The pairs of ``--images`` and ``--texts``, all of which can be read."""
    if not (flags.images and flags.texts):
        raise InputError("give --images and --texts, or --split val")
    if any(not text.strip() for text in flags.texts):
        raise InputError("a text of --texts is empty: give a sentence")
    images = [as_image(path) for path in flags.images]
    if len(images) == len(flags.texts):
        return list(zip(images, flags.texts, strict=True))
    return list(itertools.product(images, flags.texts))


def _labels(paths: Sequence[str], matchers: Sequence[Matcher]) -> list[str]:
    """What tells the Matchers apart: their heads, or else their runs' folders."""
    heads = [type(matcher.similarity).__name__ for matcher in matchers]
    if len(set(heads)) == len(heads):
        return heads
    folders = [Path(path).resolve().parent.parent.name for path in paths]
    return folders if len(set(folders)) == len(folders) else list(paths)


# -- pairs of a split -------------------------------------------------------------------------


def _data_of_split(
    flags: argparse.Namespace,
    others: Sequence[str],
    checkpoint: dict[str, Any],
    matchers: Sequence[Matcher],
) -> ITMDataModule:
    """The data of ``--split``."""
    if flags.images or flags.texts:
        raise InputError("--split takes images and texts of its own: leave --images and --texts")
    if flags.queries < 1:
        raise InputError(f"--queries is {flags.queries}; it must be at least 1")
    data = _data(flags.config, others, checkpoint)
    return data.connect(*(matcher.image_encoder for matcher in matchers))


def _measure(
    flags: argparse.Namespace, data: ITMDataModule | None, matchers: dict[str, Matcher]
) -> None:
    """Measures the explanations of the split's pairs; prints and keeps the numbers."""
    if data is None:
        raise InputError("--measure takes a split, such as --split val")
    measured = {
        label: measure_explanations(matcher, data, flags.split, flags.queries, flags.method)
        for label, matcher in matchers.items()
    }
    flags.output.mkdir(parents=True, exist_ok=True)
    (flags.output / "measures.json").write_text(json.dumps(measured, indent=2))
    picture(measured, flags.output / "measures.png")
    for label, values in measured.items():
        print(f"{label}: {table(values)}")
    print(f"\n{definitions(measured)}\n")


def _data(
    configs: Sequence[str], flags: Sequence[str], checkpoint: dict[str, Any]
) -> ITMDataModule:
    """The data that the checkpoint was trained on, changed by configs and flags."""
    sections = [(checkpoint.get("config") or {}).get("data")]
    for path in configs:
        try:
            sections.append(yaml.safe_load(Path(path).read_text()).get("data"))
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise InputError(f"--config {path} cannot be read: {error}") from error
    parser = OneLineParser(default_env=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(ITMDataModule, "data")
    given = [("--config", yaml.safe_dump({"data": section})) for section in sections if section]
    if not given and option(flags, "data.source") is None:
        raise InputError("the checkpoint knows no data: give --data.source, or a --config with it")
    config = parser.parse_args([*itertools.chain(*given), *flags])
    data = parser.instantiate_classes(config).data
    assert isinstance(data, ITMDataModule)
    return data
