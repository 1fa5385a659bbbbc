"""How often something is done while training."""

from __future__ import annotations

import time

from itm_lightning.errors import InputError


class Cadence:
    """How often ``last.ckpt`` is written while training; besides, after every validation.

    Args:
        minutes: at least so long after it was last written.
        steps: after so many optimiser steps, too.

    Raises:
        InputError: either is not above 0.
    """

    def __init__(self, minutes: float = 10.0, steps: int | None = None) -> None:
        for name, value in (("minutes", minutes), ("steps", steps)):
            if value is not None and value <= 0:
                raise InputError(f"--last_checkpoint.{name} is {value}; it must be above 0")
        self.minutes, self.steps = minutes, steps
        self.restart(0)

    def restart(self, step: int) -> None:
        """Begins to count, at a step of the optimiser."""
        self._since = time.monotonic(), step

    def due(self, step: int) -> bool:
        """Whether it is time again."""
        then, first = self._since
        late = time.monotonic() - then >= 60 * self.minutes
        return late or (self.steps is not None and step - first >= self.steps)
