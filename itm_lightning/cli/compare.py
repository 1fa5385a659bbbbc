"""``lightning compare``: trains similarity measures alike, and compares what was trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from typing_extensions import override

from itm_lightning.compare.findings import find, title_of, write
from itm_lightning.compare.runs import read_outcome, split_of
from itm_lightning.compare.table import to_print
from itm_lightning.compare.variants import variants_of
from itm_lightning.errors import InputError


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def main(args: list[str]) -> None:
    """Runs ``lightning compare`` with these arguments."""
    parser = _Parser(prog="lightning compare", allow_abbrev=False)
    parser.add_argument("--runs", nargs="+", type=Path, default=[])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", choices=("val", "test"))
    chosen = parser.parse_args(args)
    chosen.output.mkdir(parents=True, exist_ok=True)
    split = chosen.split or split_of(chosen.runs)
    outcomes = [read_outcome(folder, split) for folder in chosen.runs]
    findings = find(*variants_of(outcomes), chosen.output)
    write(findings, chosen.output)
    Console().print(to_print(findings.rows, title_of(findings)))
