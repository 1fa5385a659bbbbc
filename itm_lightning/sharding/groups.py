"""An optimiser's groups: a step goes through shards or through whole parameters, not both."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


def separate(optimizer: Optimizer) -> None:
    """Gives shards and whole parameters groups of their own, with the same settings.

    Optimisers step through all tensors of a group at once, which fails where they are of both
    kinds. To be called before the first step and before a scheduler is made.
    """
    optimizer.param_groups[:] = [
        {**group, "params": parameters}
        for group in optimizer.param_groups
        for parameters in _by_kind(group["params"])
        if parameters
    ]


def _by_kind(parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    shards: list[nn.Parameter] = [p for p in parameters if isinstance(p, DTensor)]
    return shards, [p for p in parameters if not isinstance(p, DTensor)]
