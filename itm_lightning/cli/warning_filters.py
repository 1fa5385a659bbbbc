"""Leaves out what Lightning and torch print in every run although no user can act on it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itm_lightning.errors import printable

_WARNINGS = (
    r".*when using `ckpt_path`, callbacks used to create the checkpoint",  # tests need none
    r"`ModelCheckpoint\(monitor='val/.*'\)` could not find",  # a line at the end says why
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen trunk should be
    r"`LightningModule.configure_optimizers` returned `None`",  # a closed-form fit has none
    r".*`parameters` is an empty generator, no gradient clipping",  # nor gradients
    r"predict returned None",  # it collects features, and ranks them at the end
    r".*sync_dist=True",  # every process has the same scores of the whole gallery already
    r"Using `DistributedSampler` with the dataloaders",  # what it repeats counts once
    r"Your `IterableDataset` has `__len__` defined",  # ours is exact with workers, too
    r"FSDP2-wrapped module .* returned a view tensor",  # nothing writes into a trunk's tokens
    r".*_get_pg_default_device|Multiple backends are registered",  # within torch
    r".*isinstance\(treespec, LeafSpec\)",  # within Lightning
    r"`torch.jit.script` is deprecated",  # within torch, where explain calls jvp
)
_LOG_LINES = {
    "pytorch_lightning.utilities.rank_zero": (
        "💡 Tip",  # advertisements
        "Loading `train_dataloader` to estimate number of stepping batches",
        "Restoring states from the checkpoint path",  # another line says so once it is done
    ),
    "lightning_fabric.utilities.rank_zero": (),
    "pytorch_lightning.trainer.connectors.checkpoint_connector": ("`weights_only` was not set",),
}


@dataclass(frozen=True)
class _Printable:
    """Formats a warning without the control characters of a dataset's names and captions.

    Attributes:
        format: of the warnings module, or of Lightning.
    """

    format: Callable[..., str]

    def __call__(self, message: Warning | str, *args: Any, **kwargs: Any) -> str:
        return self.format(printable(str(message)), *args, **kwargs)


def filter_warnings() -> None:
    """Filters these warnings and lines of the log; all others come through, printable."""
    if not isinstance(warnings.formatwarning, _Printable):
        warnings.formatwarning = _Printable(warnings.formatwarning)
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message)
    for logger in _LOG_LINES:
        logging.getLogger(logger).addFilter(_is_of_use)
        logging.getLogger(logger).addFilter(_make_printable)


def _make_printable(record: logging.LogRecord) -> bool:
    """Lightning names files, whose names may hold control characters."""
    lines = record.getMessage().split("\n")
    shown = (line if line.isprintable() else printable(line) for line in lines)
    record.msg, record.args = "\n".join(shown), ()
    return True


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_LOG_LINES[record.name])
