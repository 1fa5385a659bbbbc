"""Where gradients lie in what processes sum up, the same in a run and in one that goes on.

``DistributedDataParallel`` packs gradients into buckets, and after its first step packs them anew,
in the order in which they came. Of three processes or more, an element's place in its bucket
decides in which order their numbers are added, and so the last bits of the sum: a run that goes on
would begin with a step of other bits than the unbroken one has there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel


def settle_buckets(model: Any) -> None:
    """Lets DDP pack its buckets for good before the first step; a collective.

    Without this they would be settled by the first step's gradients. These here are all zero, and
    come from the last parameter to the first.

    Args:
        model: what the strategy has wrapped; nothing happens if it is no DDP, or one that never
            packs anew.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    if model.find_unused_parameters or model.static_graph:
        return
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        nothing = torch.stack([0 * parameter.flatten()[:1].sum().float() for parameter in learnt])
        model.reducer.prepare_for_backward([])
        nothing.sum().backward()
    model.reducer._rebuild_buckets()
    for parameter in learnt:
        parameter.grad = None
