"""Leaves out what Lightning says on every run and no user of ours can act on."""

from __future__ import annotations

import logging
import warnings

_IRRELEVANT = (
    r".*when using `ckpt_path`, callbacks used to create the checkpoint",  # tests need none
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen trunk should be
    r"predict returned None",  # it collects features, and ranks them at the end
    r".*sync_dist=True",  # every process has the same scores of the whole gallery already
    r"Using `DistributedSampler` with the dataloaders",  # what it repeats counts once
    r"Your `IterableDataset` has `__len__` defined",  # ours tells the truth with workers, too
    r"FSDP2-wrapped module .* returned a view tensor",  # nothing writes into a trunk's tokens
    r".*_get_pg_default_device|Multiple backends are registered",  # torch's, to itself
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own business
)


def be_quiet() -> None:
    """Filters those warnings, and the log's advertisements."""
    for message in _IRRELEVANT:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "💡 Tip" not in record.getMessage()
