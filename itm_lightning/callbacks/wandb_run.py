"""What W&B is told of a run beside its curves: the config, the axes, and the best scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from typing_extensions import override

_RANKS = ("R@1", "R@5", "R@10", "medr", "meanr")
_SCORES = [f"{way}_{score}" for way in ("i2t", "t2i") for score in _RANKS]
_VALIDATED = (*_SCORES, "rsum", "pairs_accuracy", "loss")
_LOWER_IS_BETTER = ("medr", "meanr", "loss")


def wandb_logger(trainer: pl.Trainer) -> WandbLogger | None:
    """The trainer's logger of W&B, if it has one."""
    found = (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))
    return next(found, None)


class WandbRun(Callback):
    """Sends the config, nested and once, and says what belongs on which axis.

    The scores of validation epochs stand over ``epoch``, all else over ``trainer/global_step``;
    the run's summary has each score's best value beside its last. What is scored once more after
    the fit, the best checkpoint, is no further point of the curves: its scores go into the summary
    alone, as ``best/rsum`` and so on. So do those of a test that joins the fit's run later.

    Args:
        config: plain values; that of the fit where a test joins its run.
        joins: whether the run is that of an earlier fit.
    """

    def __init__(self, config: dict[str, Any], joins: bool) -> None:
        self.config = config
        self.joins = joins
        self._has_trained = self._is_told = False
        self._hidden: list[Logger] = []  # the trainer's loggers, while it does without W&B

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        logger = wandb_logger(trainer)
        if self._is_told or logger is None or not trainer.is_global_zero:
            return
        self._is_told = True
        logger.log_hyperparams(self.config)
        for score in _VALIDATED:
            best = "min" if score.endswith(_LOWER_IS_BETTER) else "max"
            how = {"step_metric": "epoch", "summary": f"{best},last"}
            logger.experiment.define_metric(f"val/{score}", **how)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._has_trained = True

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate" and (self._has_trained or self.joins):
            self._hide(trainer)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._summarise(trainer, pl_module.results, "val", Path(str(trainer.ckpt_path)).stem)

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.joins:
            self._hide(trainer)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._summarise(trainer, pl_module.results, "test", "test")

    def _hide(self, trainer: pl.Trainer) -> None:
        """Takes W&B from the trainer's loggers, so that a split's scores are no point."""
        self._hidden = trainer.loggers
        trainer.loggers = [each for each in self._hidden if not isinstance(each, WandbLogger)]

    def _summarise(
        self, trainer: pl.Trainer, results: dict[str, float], split: str, name: str
    ) -> None:
        """Gives W&B back, where it was taken, and puts the split's scores into its summary."""
        if not self._hidden:
            return
        trainer.loggers, self._hidden = self._hidden, []
        logger = wandb_logger(trainer)
        if logger is not None and trainer.is_global_zero:
            keys = [key for key in results if key.startswith(f"{split}/")]
            named = {f"{name}/{key.partition('/')[2]}": results[key] for key in keys}
            logger.experiment.summary.update(named)
