"""What is printed of the model before it trains."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from rich.console import Console
from rich.table import Table
from torch import nn
from typing_extensions import override

from itm_lightning.part import Part


class ModelTable(Callback):
    """Prints the parts of the model and how many parameters each has.

    Lightning's own table has a column of FLOPs, which are 0 until something has run.
    """

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            Console().print(model_table(pl_module))


def model_table(module: nn.Module) -> Table:
    """The parts among the children of a module, and their parameters."""
    table = Table()
    for column in ("part", "class"):
        table.add_column(column)
    for column in ("parameters", "trainable"):
        table.add_column(column, justify="right")
    for name, part in module.named_children():
        if isinstance(part, Part):
            counts = (f"{count:,}" for count in parameter_counts(part))
            table.add_row(name, type(part).__name__, *counts)
    table.add_section()
    table.add_row("", "", *(f"{count:,}" for count in parameter_counts(module)))
    return table


def parameter_counts(module: nn.Module) -> tuple[int, int]:
    """The numbers of all parameters and of the trainable ones."""
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(p.numel() for p in parameters), trainable
