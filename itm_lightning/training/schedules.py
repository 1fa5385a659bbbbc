"""Learning-rate schedules that torch does not have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from itm_lightning.errors import InputError, refused

_PERIODS = "step_size", "T_max", "T_0", "total_iters", "total_steps"
_RATES = "max_lr", "min_lr", "base_lr", "lr", "eta_min", "gamma"


class WarmupCosine(LambdaLR):
    """Linear warm-up, then half a cosine down to zero, over the whole run, step by step.

    Source: Loshchilov & Hutter (2017), SGDR, eq. 5, without restarts; warm-up as in Goyal et al.
    (2017), section 2.2.

    Args:
        optimizer: its learning rates are the peaks.
        warmup: the share of the run that warms up, 0 to 1.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.1) -> None:
        if not 0 <= warmup < 1:
            raise InputError(f"WarmupCosine: warmup is {warmup}; it must lie in [0, 1)")
        self.warmup = warmup
        self.total_steps = 1
        super().__init__(optimizer, self._factor)

    def plan(self, total_steps: int) -> None:
        """Says how many steps the run has; the Matcher does so before the first."""
        self.total_steps = total_steps

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads all but the number of steps: the resumed run may be longer."""
        super().load_state_dict({**state_dict, "total_steps": self.total_steps})

    def _factor(self, step: int) -> float:
        warm_steps = self.warmup * self.total_steps
        if step < warm_steps:
            return (step + 1) / (warm_steps + 1)
        progress = (step - warm_steps) / max(1.0, self.total_steps - warm_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def with_schedule(
    optimizer: Optimizer, make: Callable[[Optimizer], Any] | None, module: Any
) -> Any:
    """An optimiser with its schedule, as Lightning wants them.

    Args:
        optimizer: the optimiser.
        make: makes the schedule of it; ``None`` where there is none.
        module: the LightningModule, whose trainer knows how many steps the run has.

    Raises:
        InputError: the schedule refuses its arguments, has a period of 0, or lets a learning rate
            fall below 0.
    """
    if make is None:
        return optimizer
    with refused("model.scheduler cannot be made"):
        scheduler, interval = make(optimizer), "epoch"
    for name in _PERIODS:  # torch divides by them at the first step
        if getattr(scheduler, name, 1) == 0:
            raise InputError(f"{type(scheduler).__name__}: {name} is 0; it must be at least 1")
    for name, value in {**vars(scheduler), **optimizer.param_groups[0]}.items():
        if name in _RATES and isinstance(value, int | float) and value < 0:
            raise InputError(
                f"{type(scheduler).__name__}: {name} is {value}; it must be at least 0"
            )
    if isinstance(scheduler, WarmupCosine):
        scheduler.plan(int(module.trainer.estimated_stepping_batches))
        interval = "step"
    settings = {"scheduler": scheduler, "interval": interval, "monitor": "val/rsum"}
    return {"optimizer": optimizer, "lr_scheduler": settings}
