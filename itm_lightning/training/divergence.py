"""Training that has diverged ends at once, and leaves the last good checkpoint in place."""

from __future__ import annotations

from typing import Any

from torch import nn

from itm_lightning.errors import InputError

_MEND = "lower the learning rate, or set trainer.gradient_clip_val"


def check_loss(trainer: Any) -> None:
    """Ends a fit whose loss is not finite, before a step of the optimiser that would spread it.

    On a GPU it is read as often as it is logged, and at the end of an epoch: reading it waits for
    all that has been computed. A loss that is not finite once makes all that follow so, too.

    Args:
        trainer: of the fit, which has logged ``train/loss``.

    Raises:
        InputError: it is infinite or NaN.
    """
    loss, step = trainer.callback_metrics["train/loss"], trainer.global_step
    is_logged = step % max(trainer.log_every_n_steps, 1) == 0
    if (loss.device.type == "cpu" or is_logged or trainer.is_last_batch) and not loss.isfinite():
        raise InputError(
            f"the loss is {float(loss)} at step {step}: training has diverged; {_MEND}"
        )


def check_weights(module: nn.Module, step: int) -> None:
    """Refuses to write weights into a checkpoint that are not finite; a good one stays in place.

    Args:
        module: that is trained.
        step: of the optimiser.

    Raises:
        InputError: a weight is infinite or NaN; the message names it.
    """
    for name, weights in module.named_parameters():
        # a sum is one pass and needs no memory; it may overflow where all weights are finite
        if not weights.detach().sum().isfinite() and not weights.isfinite().all():
            raise InputError(
                f"{name} is no longer finite at step {step}: training has diverged, and earlier "
                f"checkpoints are left as they are; {_MEND}"
            )
