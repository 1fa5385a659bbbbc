"""Lightning's command line, without the options of commands that were not called."""

from __future__ import annotations

from pytorch_lightning.cli import LightningCLI
from typing_extensions import override


class OneCommandCLI(LightningCLI):
    """LightningCLI that can do with the options of one subcommand: each would take 0.1 s."""

    def keep_options_of(self, called: str | None) -> None:
        """Forgets all other subcommands; keeps all where it is none of them."""
        every = self.subcommands()
        if called in every:
            self.subcommands = lambda: {called: every[called]}  # type: ignore[method-assign]

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        skipped = LightningCLI.subcommands() | {"extract": {"model", "datamodule"}}
        for command in ("validate", "test"):
            skipped[command].add("verbose")  # our table is printed instead of Lightning's
        return skipped
