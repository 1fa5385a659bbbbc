"""Closed-form fitting: one pass over all pairs, sums over processes, a solution."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn

from itm_lightning.distributed import Processes, rank
from itm_lightning.similarity.base import ClosedForm
from itm_lightning.types import EncodedBatch, Features

logger = logging.getLogger(__name__)


class ClosedFormFit:
    """What a pass over the pairs has added up for a head.

    Args:
        head: that is to be solved.
    """

    def __init__(self, head: ClosedForm) -> None:
        self._head = head
        self._sums: dict[str, Tensor] = {}
        self._rows: dict[str, list[Tensor]] = {name: [] for name in head.joined}

    @torch.no_grad()
    def observe(self, images: Features, texts: Features, labels: Tensor | None = None) -> None:
        """Adds a batch of pairs, row with row."""
        for name, value in self._head.observe(images, texts, labels).items():
            if name in self._rows:
                self._rows[name].append(value)
            else:
                self._sums[name] = self._sums[name] + value if name in self._sums else value

    def step(self, encoded: EncodedBatch, is_last: bool, processes: Processes) -> Tensor:
        """Observes a batch, solves the head after the last one (a collective), and has no loss."""
        self.observe(encoded.images, encoded.texts, encoded.batch.labels)
        if is_last:
            self.solve(processes)
        return no_loss(cast(nn.Module, self._head))

    @torch.no_grad()
    def solve(self, processes: Processes) -> None:
        """Sets the head's weights from the pairs of all processes; a collective."""
        sums = {name: processes.sum(value) for name, value in self._sums.items()}
        for name, parts in self._rows.items():
            rows = processes.gather(torch.cat(parts))
            assert rows is not None  # each process has pairs
            sums[name] = rows
        self._head.solve(sums)
        self._sums, self._rows = {}, {name: [] for name in self._rows}


def prepare_solution(module: nn.Module, head: nn.Module, trainer: Any, trains: bool) -> None:
    """Before a fit of a head that is solved.

    Where the rest of the module is trained, only the head is frozen. Otherwise all but the head is
    (whose parameters DistributedDataParallel wants to have gradients), there is one epoch, and the
    encoders and projections that would have been trained with another head are logged.

    Args:
        module: what holds the head.
        head: a :class:`~itm_lightning.similarity.base.ClosedForm`.
        trainer: Lightning's.
        trains: whether the rest of the module is trained.
    """
    trainer.num_sanity_val_steps = 0  # nothing can be scored before it is solved
    if trains:
        head.requires_grad_(False)
        return
    trainer.fit_loop.max_epochs = 1
    trainable = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    parts = {name.partition(".")[0] for name in trainable} - {"similarity", "objective"}
    if parts and rank() == 0:
        logger.warning(
            "%s: not trained, because %s is solved in closed form",
            ", ".join(sorted(parts)),
            type(head).__name__,
        )
    module.requires_grad_(False)
    head.requires_grad_(True)


def no_loss(head: nn.Module) -> Tensor:
    """A loss of 0 with a gradient of 0, for Lightning, which wants one of every step."""
    return torch.stack([0 * parameter.sum() for parameter in head.parameters()]).sum()
