"""``lightning convert``: published checkpoints of SCAN, SGRAF, VSE∞ and CHAN, for our commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from itm_lightning.callbacks import RunConfig
from itm_lightning.cli.command import ITMCLI
from itm_lightning.cli.errors import CommandParser, refused_arguments
from itm_lightning.cli.trainer import ITMTrainer
from itm_lightning.errors import InputError
from itm_lightning.training.published_checkpoints import load_published

_DESCRIPTION = """
Turns a checkpoint that the authors of SCAN, SGRAF, VSE∞ or CHAN published into one that `lightning
test --ckpt_path` scores. --config names the recipe it was trained by, and flags as for `lightning
fit` change it:

  lightning convert --config experiments/flickr30k/scan.yaml --model.similarity.direction i2t \\
      --checkpoint model_best.pth.tar --vocabulary f30k_precomp_vocab.json --output scan_i2t.ckpt

Only the tensors in the file are read. The head's settings are not among them: take the recipe of
the model that was trained.
"""


def _parser() -> CommandParser:
    parser = CommandParser("convert", _DESCRIPTION)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="the authors' file (.pth, .pth.tar)")
    add("--vocabulary", type=Path, help="the authors' …_vocab.json, for models with a GRU")
    add("--output", type=Path, required=True, help="the checkpoint to write")
    return parser


def main(args: list[str]) -> None:
    """Runs ``lightning convert``.

    Raises:
        InputError: a file or a flag is at fault, or the recipe is not that of the checkpoint.
    """
    flags, others = _parser().parse_known_args(args)
    if not any(arg == "--config" or arg.startswith("--config=") for arg in others):
        raise InputError("lightning convert needs --config: the recipe that the model is of")
    recipe = _Recipe(others)
    load_published(recipe.model, flags.checkpoint, flags.vocabulary)
    config = RunConfig(flags.output.parent, recipe.plain_config())
    trainer = ITMTrainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[config]
    )
    recipe.model.trainer = trainer
    trainer.strategy.connect(recipe.model)
    trainer.save_checkpoint(flags.output)
    print(f"{flags.output}: now run lightning test --ckpt_path {flags.output}")


class _Recipe(ITMCLI):
    """Builds the model that a config and flags describe, and runs nothing."""

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(args, run=False)

    @override
    def before_instantiate_classes(self) -> None:
        pass

    @override
    def instantiate_classes(self) -> None:
        with refused_arguments():
            self.model: Any = self.parser.instantiate_classes(self.config).model
