"""``lightning explain``: pages that show where a score comes from."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml
from PIL import Image

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.cli.checkpoint_sections import checked_sections
from itm_lightning.cli.early_args import check_configs, option
from itm_lightning.cli.errors import CommandParser, OneLineParser
from itm_lightning.data.records import fault_of_text
from itm_lightning.errors import InputError, printable
from itm_lightning.explain import METHODS, Explanation, RegionImage, explain
from itm_lightning.explain.definitions import definitions, picture, table
from itm_lightning.explain.explanation import method_for
from itm_lightning.explain.measures import Measures
from itm_lightning.explain.page import write_pages
from itm_lightning.explain.pairs import explained_records, image_of
from itm_lightning.training.checkpoint import read_checkpoint
from itm_lightning.utils.atomic_files import write_json
from itm_lightning.utils.images import as_image
from itm_lightning.utils.progress_bars import progress_bar
from itm_lightning.utils.text_files import read_yaml

_DESCRIPTION = """
Shows where a score comes from: for each pair of an image and a text a page (open index.html in
--output) and a PNG, with a map over the image for every word. The pairs are --images and --texts:
the first image with the first text and so on where there are as many, else every image with every
text. Or those of a split: --split val --queries 20, with the data of the checkpoint, of which
--config and flags as for `lightning test` change any part (--data.source.root …). --measure then
also says how good the maps are, and writes measures.json and measures.png.
"""

_QUERIES = 20


def _parser() -> CommandParser:
    parser = CommandParser("explain", _DESCRIPTION)
    add = parser.add_argument
    add("--ckpt_path", nargs="+", required=True, help="one checkpoint, or several side by side")
    add("--images", nargs="+", default=[], metavar="FILE", help="your own images")
    add("--texts", nargs="+", default=[], metavar="TEXT", help="your own sentences")
    add("--split", choices=("train", "val", "test"), help="take pairs of a split instead")
    add("--queries", type=int, help=f"how many pairs of the split (default: {_QUERIES})")
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
    _check(flags, others)
    matchers = [Matcher.load_from_checkpoint(path) for path in flags.ckpt_path]
    for matcher in matchers:
        method_for(matcher.similarity, flags.method)
    labels = _labels(flags.ckpt_path, matchers)
    if not flags.split:
        pairs = _own(flags)
        explained = _explained(matchers, pairs, len(pairs), flags.method)
        print(f"{len(pairs)} pairs: {write_pages(explained, len(pairs), labels, flags.output)}")
        return
    count = flags.queries or _QUERIES
    data = _data(flags.config, others, Path(flags.ckpt_path[0]))
    data.connect(*(matcher.image_encoder for matcher in matchers))
    records, _ = explained_records(data, flags.split, count)
    measures = [
        Measures(matcher, data, flags.split, count, flags.method)
        for matcher in (matchers if flags.measure else ())
    ]
    of_split = ((image_of(data.source, record), record.texts[0]) for record in records)
    explained = _explained(matchers, of_split, len(records), flags.method, measures)
    print(f"{len(records)} pairs: {write_pages(explained, len(records), labels, flags.output)}")
    if flags.measure:
        means = (each.means() for each in measures)
        _write_measures(dict(zip(labels, means, strict=True)), flags.output)


def _check(flags: argparse.Namespace, others: Sequence[str]) -> None:
    """Refuses flags that say nothing, alone or beside the others."""
    for arg in others:
        if not flags.split or re.match(r"--?(?!data\b)[a-z]", arg):
            why = "" if flags.split else " without --split"
            raise InputError(f"{arg} is no flag of explain{why}: see `lightning explain --help`")
    if flags.split:
        if flags.images or flags.texts:
            raise InputError("--split takes images and texts of its own: leave --images, --texts")
        if flags.queries is not None and flags.queries < 1:
            raise InputError(f"--queries is {flags.queries}; it must be at least 1")
        return
    if flags.measure:
        raise InputError("--measure takes a split, such as --split val")
    for name in ("config", "queries"):
        if getattr(flags, name) not in (None, []):
            raise InputError(f"--{name} is for --split, such as --split val")
    if not (flags.images and flags.texts):
        raise InputError("give --images and --texts, or --split val")
    if fault := next(filter(None, map(fault_of_text, flags.texts)), None):
        raise InputError(f"a text of --texts is {fault}")


def _explained(
    matchers: Sequence[Matcher],
    pairs: Iterable[tuple[Image.Image | RegionImage, str]],
    count: int,
    method: str,
    measures: Sequence[Measures] = (),
) -> Iterator[list[Explanation]]:
    """Each pair's explanations by all Matchers, which are measured on the way."""
    bar = progress_bar(pairs, desc="explain", unit="pair", total=count)
    for number, (image, text) in enumerate(bar):
        explained = [explain(matcher, image, text, method)[0] for matcher in matchers]
        for each, explanation in zip(measures, explained, strict=bool(measures)):
            assert isinstance(image, Image.Image)  # of a source of images
            each.add(number, image, explanation)
        yield explained


def _own(flags: argparse.Namespace) -> list[tuple[Image.Image, str]]:
    """The pairs of ``--images`` and ``--texts``, all of which can be read."""
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


def _write_measures(measured: dict[str, dict[str, float]], folder: Path) -> None:
    """Prints the measures of every Matcher, and keeps them beside the pages."""
    write_json(folder / "measures.json", measured)
    picture(measured, folder / "measures.png")
    for label, values in measured.items():
        print(f"{printable(label)}: {table(values)}")
    print(f"\n{definitions(measured)}\n")


def _data(configs: Sequence[str], flags: Sequence[str], path: Path) -> ITMDataModule:
    """The data that the checkpoint was trained on, changed by configs and flags."""
    checkpoint = read_checkpoint(path, f"--ckpt_path {path}")
    sections = [checked_sections(checkpoint, "explain", path, own=False).get("data")]
    check_configs([f"--config={config}" for config in configs])
    sections += [read_yaml(Path(config)).get("data") for config in configs]
    parser = OneLineParser(default_env=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(ITMDataModule, "data")
    given = [("--config", yaml.safe_dump({"data": section})) for section in sections if section]
    if not given and option(flags, "data.source") is None:
        raise InputError("the checkpoint knows no data: give --data.source, or a --config with it")
    parsed = parser.parse_args([*itertools.chain(*given), *flags])
    data = parser.instantiate_classes(parsed).data
    assert isinstance(data, ITMDataModule)
    return data
