"""ShardingModule: what a LightningModule does to train under ModelParallelStrategy."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer
from typing_extensions import override

from itm_lightning.sharding.gradients import checkpoint_layout, clip_gradients, synchronise
from itm_lightning.sharding.trunks import shard_trunks


class ShardingModule(pl.LightningModule):
    """Calls the functions of this package; the Matcher's own hooks will do so."""

    @override
    def configure_model(self) -> None:
        shard_trunks(self, self.trainer.strategy)

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
        clip = gradient_clip_val, gradient_clip_algorithm
        if not clip_gradients(self, optimizer, *clip):
            super().configure_gradient_clipping(optimizer, *clip)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint_layout(self, checkpoint, self.trainer.optimizers)
