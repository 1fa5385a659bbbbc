"""ShardingModule: what a LightningModule does to train under ModelParallelStrategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from itm_lightning.sharding.gradients import (
    clip_norm,
    clip_value,
    laid_out,
    rejoined,
    renumbered,
    synchronise,
)
from itm_lightning.sharding.trunks import is_sharded, shard


class ShardingModule(pl.LightningModule, ABC):
    """A LightningModule whose trunks are sharded where the strategy is ``ModelParallelStrategy``.

    With other strategies it is like any.
    """

    @abstractmethod
    def trunks(self) -> Iterator[nn.Module]:
        """The networks that may be large; nothing but calls may read their parameters."""

    @override
    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            mesh = strategy.device_mesh["data_parallel"]
            shard(self, self.trunks(), mesh, strategy.root_device)

    @override
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        synchronise(self)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if not gradient_clip_val or not is_sharded(self):
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        clip = clip_value if gradient_clip_algorithm == "value" else clip_norm
        clip([p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "state_dict" in checkpoint:
            checkpoint["state_dict"].update(laid_out(checkpoint["state_dict"]))
        states = checkpoint.get("optimizer_states", [])
        for number, state in enumerate(states):
            if is_sharded(self):
                states[number] = rejoined(state)
            else:
                states[number] = renumbered(laid_out(state), self.trainer.optimizers[number], self)
