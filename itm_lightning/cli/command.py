"""The command line: ``lightning fit | validate | test | predict | extract --config …``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from typing_extensions import override

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.callbacks import Results, RetrievalWriter, RunConfig, SaveLastOnException
from itm_lightning.cli.checkpoint_config import with_checkpoint_config
from itm_lightning.cli.errors import one_line
from itm_lightning.cli.quiet import be_quiet
from itm_lightning.cli.runs import drop_empty_run_folder, new_run_folder
from itm_lightning.cli.trainer import ITMTrainer
from itm_lightning.encoders.base import restoring
from itm_lightning.errors import InputError
from itm_lightning.metrics.protocols import Protocol, Retrieval
from itm_lightning.registry import KINDS, list_registered, load_entry_points

_DESCRIPTION = "Image-text matching you can take apart: train, score and compare from YAML."
_BAD_INPUT = 2


class OneLineParser(LightningArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of 60 options."""

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_line(message))


class ITMCLI(LightningCLI):
    """LightningCLI for the Matcher: a folder a run, and flags > YAML > checkpoint."""

    def __init__(self, args: Sequence[str]) -> None:
        self.checkpoint_assets: dict[str, Any] | None = None
        super().__init__(
            Matcher,
            ITMDataModule,
            save_config_callback=RunConfig,
            trainer_class=ITMTrainer,
            trainer_defaults={"default_root_dir": "runs"},
            seed_everything_default=0,
            parser_kwargs={"description": _DESCRIPTION, "prog": "lightning"},
            parser_class=OneLineParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(args),
        )

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.dim", "model.similarity.init_args.dim")
        parser.add_argument(
            "--protocol",
            type=Protocol,
            default={"class_path": "Retrieval"},
            help="What validate, test and the test after fit score: "
            f"{', '.join(list_registered('protocol'))}.",
        )

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        args, self.checkpoint_assets = with_checkpoint_config(args, self.subcommands())
        # sys.argv holds the same arguments; Lightning warns where both are given
        argv, sys.argv = sys.argv, sys.argv[:1]
        try:
            super().parse_arguments(parser, args)
        finally:
            sys.argv = argv

    def _parse_ckpt_path(self) -> None:
        # Lightning would let a checkpoint's hyperparameters win over flags and YAML.
        pass

    @override
    def instantiate_classes(self) -> None:
        # What a checkpoint will fill needs no pretrained weights, whose file may be gone.
        assets = self.checkpoint_assets
        with nullcontext() if assets is None else restoring(assets):
            super().instantiate_classes()
        self.model.protocol = self._get(self.config_init, "protocol")

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        if self.subcommand == "extract":  # it writes into its --output, and runs no loop
            self.save_config_callback = None
            return super().instantiate_trainer(logger=False, enable_checkpointing=False)
        settings = self._get(self.config_init, "trainer")
        folder = new_run_folder(Path(settings["default_root_dir"]), str(self.subcommand))
        self.save_config_kwargs = {"folder": folder}
        self.trainer_defaults["callbacks"] = [
            Results(folder),
            RetrievalWriter(folder / "predictions.jsonl"),
        ]
        if settings["enable_checkpointing"] is not False and self.subcommand == "fit":
            self.trainer_defaults["callbacks"] += _checkpoints(folder / "checkpoints")
        print(f"run folder: {folder}")
        return super().instantiate_trainer(logger=_loggers(settings["logger"], folder), **kwargs)

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        skipped = LightningCLI.subcommands() | {"extract": {"model", "datamodule"}}
        for command in ("validate", "test"):
            skipped[command].add("verbose")  # our table is printed instead of Lightning's
        return skipped

    def validate(self, **kwargs: Any) -> None:
        """Scores the validation split."""
        self.trainer.validate(verbose=False, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Scores the test split."""
        self.trainer.test(verbose=False, **kwargs)

    def after_fit(self) -> None:
        """Scores the best checkpoint, on val and, where the source has one, on the test split."""
        if not getattr(self.trainer.checkpoint_callback, "best_model_path", ""):
            return  # nothing was validated, as in a fast_dev_run
        score = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": "best"}
        # The protocol is for the test split; on val, the best epoch's scores come again.
        protocol, self.model.protocol = self.model.protocol, Retrieval()
        self.validate(**score)
        self.model.protocol = protocol
        if self.datamodule.has_split("test"):
            self.test(**score)


def main(args: Sequence[str] | None = None) -> None:
    """The console script; exits with status 2 and one line where the input is at fault."""
    sys.path.insert(0, "")  # so that YAML can name a class in the user's own file
    be_quiet()
    try:
        for kind in KINDS:
            load_entry_points(kind)
        ITMCLI(sys.argv[1:] if args is None else args)
    except (InputError, MisconfigurationException) as error:
        drop_empty_run_folder()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(_BAD_INPUT)


def _checkpoints(folder: Path) -> list[Any]:
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor="val/rsum",
        mode="max",
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    return [best, SaveLastOnException(folder / "last.ckpt")]


def _loggers(chosen: Any, folder: Path) -> list[Logger] | bool:
    """The loggers of the YAML, and ``metrics.csv`` beside them."""
    if chosen is False:
        return False
    others = [] if chosen in (None, True) else chosen if isinstance(chosen, list) else [chosen]
    return [*others, CSVLogger(folder, name="", version="")]
