"""Closed-form fitting: one pass over all pairs, sums over processes, a solution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itm_lightning.distributed import Processes
from itm_lightning.similarity.base import ClosedForm
from itm_lightning.types import Features


class ClosedFormFit:
    """What a pass over the pairs has added up for a head.

    Args:
        head: that is to be solved.
    """

    def __init__(self, head: ClosedForm) -> None:
        self._head = head
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, images: Features, texts: Features) -> None:
        """Adds a batch of pairs, row with row."""
        for name, value in self._head.observe(images, texts).items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def solve(self, processes: Processes) -> None:
        """Sets the head's weights from the pairs of all processes; a collective."""
        self._head.solve({name: processes.sum(value) for name, value in self._sums.items()})
        self._sums = {}


def freeze_all_but(head: nn.Module, module: nn.Module) -> None:
    """Freezes a module's parameters, those of its head excepted, as nothing else is solved."""
    module.requires_grad_(False)
    head.requires_grad_(True)


def no_loss(head: nn.Module) -> Tensor:
    """A loss of 0 with a gradient of 0, for Lightning, which wants one of every step."""
    return torch.stack([0 * parameter.sum() for parameter in head.parameters()]).sum()
