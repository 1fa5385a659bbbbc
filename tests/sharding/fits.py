"""Fits of a tiny Matcher by several processes, with one strategy or another."""

import os
from dataclasses import dataclass, field
from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
from itm_lightning.encoders import PretrainedText, RecurrentText, TorchvisionCNN
from itm_lightning.objectives import Sigmoid
from itm_lightning.sharding import is_sharded
from itm_lightning.similarity import Lorentz

WORLD = 2


def fsdp2():
    return ModelParallelStrategy(WORLD, 1, save_distributed_checkpoint=False)


STRATEGIES = {"ddp": DDPStrategy, "fsdp2": fsdp2}


@dataclass(frozen=True)
class Fit:
    """How a Matcher is trained.

    Attributes:
        trainer: settings of the Trainer.
        model: settings of the Matcher.
        network: the image encoder's.
        frozen: whether the image encoder is.
        recurrent: whether the text encoder is; else it is a pretrained one.
    """

    trainer: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    network: str = "squeezenet1_1"
    frozen: bool = False
    recurrent: bool = False


FITS = {
    "plain": Fit(),
    "batch norm": Fit(network="resnet18"),
    "norm clipped": Fit({"gradient_clip_val": 0.05, "accumulate_grad_batches": 2}),
    "values clipped, recurrent": Fit(
        {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}, recurrent=True
    ),
    "bf16-mixed": Fit({"precision": "bf16-mixed"}),
    "frozen, gradient cache": Fit(model={"gradient_cache": 2}, frozen=True),
}


class Losses(pl.Callback):
    """Remembers the loss of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, *_):
        self.seen.append(trainer.callback_metrics["train/loss"].item())


def matcher_of(fit, text_folder):
    text = RecurrentText(hidden=8, word_dim=8) if fit.recurrent else PretrainedText(text_folder)
    images = TorchvisionCNN(fit.network, image_size=64, trainable=not fit.frozen)
    # a head of single numbers, which it clamps in place; an optimiser that steps through all
    # tensors at once, as it does by itself on a GPU
    optimizer = partial(torch.optim.AdamW, lr=1e-3, foreach=True)
    head, factors = Lorentz(8), {"text_encoder": 0.5}
    settings = {"dim": 8, "optimizer": optimizer, "lr_factors": factors, **fit.model}
    return Matcher(images, text, head, Sigmoid(), **settings)


def trainer_of(strategy, folder, **settings):
    return pl.Trainer(
        strategy=STRATEGIES[strategy](),
        accelerator="cpu",
        devices=WORLD,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 1, **settings},
    )


def scenes():
    return ITMDataModule(Scenes(train=4, val=6, test=6, pairs=0.5), batch_size=5)


def trained(fit, strategy, folder, text_folder, ckpt_path=None, **settings):
    """What a fit leaves behind, as plain values; its checkpoint is ``<folder>/<strategy>.ckpt``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(int(os.environ["RANK"]))  # drawn apart: the first one's weights count
    matcher = matcher_of(fit, text_folder)
    pl.seed_everything(0, verbose=False)
    losses = Losses()
    trainer = trainer_of(strategy, folder, callbacks=[losses], **fit.trainer, **settings)
    trainer.fit(matcher, datamodule=scenes(), ckpt_path=ckpt_path)
    checkpoint = folder / f"{strategy}.ckpt"
    trainer.save_checkpoint(checkpoint)
    sharded = is_sharded(matcher)
    trainer.test(matcher, datamodule=scenes(), ckpt_path=checkpoint, verbose=False)
    return {
        "losses": losses.seen,
        "results": dict(matcher.results),
        "sharded": sharded,
        "fingerprint": matcher.image_encoder.fingerprint()["tensors"],
    }
