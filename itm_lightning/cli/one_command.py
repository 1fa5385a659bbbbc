"""Lightning's command line, without the options of commands that were not called."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override


class OneCommandCLI(LightningCLI):
    """LightningCLI that collects the options of one subcommand: each would take 0.1 s.

    Attributes:
        called: the subcommand; where it is none of them, the options of all are collected.
    """

    called: str | None = None

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        skipped = LightningCLI.subcommands() | {"extract": {"model", "datamodule"}}
        for command in ("validate", "test"):
            skipped[command].add("verbose")  # our table is printed instead of Lightning's
        return skipped

    @override
    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        if self.called in self.subcommands() and self.called != subcommand:
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
