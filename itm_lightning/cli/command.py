"""Leaves out what Lightning says on every run and no user of ours can act on.

The command line: ``lightning fit | validate | test | predict | extract --config …``.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import override

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.callbacks import Results, RetrievalWriter, RunConfig, plain_config
from itm_lightning.cli.checkpoint_config import EnsembleFlags, with_checkpoint_config
from itm_lightning.cli.early_args import command_of, dim_of_head, one_line, option
from itm_lightning.cli.loggers import loggers_of
from itm_lightning.cli.processes import check_processes, is_first
from itm_lightning.cli.resumed_config import has_finished
from itm_lightning.cli.runs import (
    Run,
    drop_empty_run_folder,
    environment_of_one_run,
    known_run,
    new_run,
)
from itm_lightning.cli.stopping import (
    BAD_INPUT,
    FailureCallback,
    PreemptionCallback,
    ResumeCallback,
    say_bad_input,
    say_stopped,
    stop_signals,
)
from itm_lightning.cli.trainer import ITMTrainer, configure_strategy, name_fsdp2, refusals
from itm_lightning.encoders.base import restoring
from itm_lightning.errors import InputError
from itm_lightning.metrics.protocols import Protocol, Retrieval
from itm_lightning.registry import KINDS, list_registered, load_entry_points
from itm_lightning.resume import BestCheckpoint, Cadence, LastCheckpoint
from itm_lightning.training.trainer_rules import check_trainer

_IRRELEVANT = (
    r".*when using `ckpt_path`, callbacks used to create the checkpoint",  # tests need none
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen trunk should be
    r"`LightningModule.configure_optimizers` returned `None`",  # a closed-form fit has none
    r"predict returned None",  # it collects features, and ranks them at the end
    r".*sync_dist=True",  # every process has the same scores of the whole gallery already
    r"Using `DistributedSampler` with the dataloaders",  # what it repeats counts once
    r"Your `IterableDataset` has `__len__` defined",  # ours tells the truth with workers, too
    r"FSDP2-wrapped module .* returned a view tensor",  # nothing writes into a trunk's tokens
    r".*_get_pg_default_device|Multiple backends are registered",  # torch's, to itself
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own business
)


def filter_warnings() -> None:
    """Filters those warnings, and the log's advertisements."""
    for message in _IRRELEVANT:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "💡 Tip" not in record.getMessage()


_DESCRIPTION = "Image-text matching you can take apart: train, score and compare from YAML."
_BAD_INPUT_STATUS = 2


class OneLineParser(LightningArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of 60 options."""

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(one_line(message))


class ITMCLI(LightningCLI):
    """LightningCLI for the Matcher: a folder a run, and flags > YAML > checkpoint."""

    def __init__(self, args: Sequence[str]) -> None:
        self.checkpoint_assets: dict[str, Any] | None = None
        self.run: Run | None = None
        self.last: Path | None = None  # where the run goes on
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
        head = "model.similarity.init_args"
        sources = "model.dim", "model.similarity.class_path", head
        parser.link_arguments(sources, f"{head}.dim", compute_fn=dim_of_head)
        parser.add_argument(
            "--protocol",
            type=Protocol,
            default={"class_path": "Retrieval"},
            help="What validate, test and the test after fit score: "
            f"{', '.join(list_registered('protocol'))}.",
        )
        parser.add_class_arguments(Cadence, "last_checkpoint")
        parser.add_class_arguments(EnsembleFlags, "ensemble")
        parser.add_argument(
            "--run_name",  # not --run: torchrun would take it for a short form of its --run-path
            type=str | None,
            default=None,
            help="Name of the run's folder; a fit of that name that was stopped goes on.",
        )

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        command = command_of(args, self.subcommands())
        if command not in (None, "extract"):
            self.run = known_run(args, str(command))
            self.last = self.run.last if self.run else None
        started_from = option(args, "ckpt_path")
        args, self.checkpoint_assets = with_checkpoint_config(args, self.subcommands(), self.last)
        # sys.argv holds the same arguments; Lightning warns where both are given
        argv, sys.argv = sys.argv, sys.argv[:1]
        try:
            super().parse_arguments(parser, args)
        finally:
            sys.argv = argv
        if self.last:
            self.config[command]["ckpt_path"] = started_from  # of the run, not of this start

    def _parse_ckpt_path(self) -> None:
        # Lightning would let a checkpoint's hyperparameters win over flags and YAML.
        pass

    @override
    def before_instantiate_classes(self) -> None:
        settings = self._get(self.config, "trainer")
        if not settings["plugins"]:  # a ClusterEnvironment may be among them
            check_processes(settings["devices"], settings["num_nodes"], settings["accelerator"])
        config = self.config[self.subcommand]
        plain = plain_config(self._parser(self.subcommand), config)
        if self.run and has_finished(self.run, plain):
            if is_first():
                print(f"{self.run.folder} is complete: nothing to do")
            sys.exit()

    @override
    def instantiate_classes(self) -> None:
        # What a checkpoint will fill needs no pretrained weights, whose file may be gone.
        assets = self.checkpoint_assets
        with nullcontext() if assets is None else restoring(assets):
            super().instantiate_classes()
        configure_strategy(self.trainer)
        check_trainer(self.trainer, self.model)
        ensemble = self._get(self.config_init, "ensemble")
        if ensemble.checkpoints:
            config = self.config_init[self.subcommand]
            self.model = ensemble.load(self.subcommand, self.model, config.get("ckpt_path"))
            config["ckpt_path"] = None  # its weights are loaded
        self.model.protocol = self._get(self.config_init, "protocol")
        if self.last:
            self.config_init[self.subcommand]["ckpt_path"] = str(self.last)

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        if self.subcommand == "extract":  # it writes into its --output, and runs no loop
            self.save_config_callback = None
            return super().instantiate_trainer(logger=False, enable_checkpointing=False)
        settings = self._get(self.config_init, "trainer")
        self.run = self.run or new_run(Path(settings["default_root_dir"]), str(self.subcommand))
        folder = self.run.folder
        if is_first():
            self.run.begin()
            print(f"run folder: {folder}" + (f", from {self.last}" if self.last else ""))
        self.save_config_kwargs = {"folder": folder}
        last = None
        if settings["enable_checkpointing"] is not False and self.subcommand == "fit":
            cadence = self._get(self.config_init, "last_checkpoint")
            last = LastCheckpoint(folder / "checkpoints" / "last.ckpt", cadence)
        self.trainer_defaults["callbacks"] = [
            FailureCallback(),
            ResumeCallback(self.last),
            PreemptionCallback(last),
            Results(folder),
            RetrievalWriter(folder / "predictions.jsonl"),
            *([BestCheckpoint(folder / "checkpoints"), last] if last else []),
        ]
        with refusals():
            logger = loggers_of(settings["logger"], self.run)
            return super().instantiate_trainer(logger=logger, **kwargs)

    def finish(self) -> None:
        """Notes that the run has done all that it was started for."""
        if self.run and is_first() and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.run.finish()

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
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if not best:
            return  # nothing was validated, as in a fast_dev_run
        score = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": best}
        # The protocol is for the test split; on val, the best epoch's scores come again.
        protocol, self.model.protocol = self.model.protocol, Retrieval()
        self.validate(**score)
        self.model.protocol = protocol
        if self.datamodule.has_split("test"):
            self.test(**score)


def main(args: Sequence[str] | None = None) -> None:
    """The console script; exits with status 2 and one line where the input is at fault."""
    sys.path.insert(0, "")  # so that YAML can name a class in the user's own file
    filter_warnings()
    name_fsdp2()
    with stop_signals(), environment_of_one_run():
        try:
            for kind in KINDS:
                load_entry_points(kind)
            ITMCLI(sys.argv[1:] if args is None else args).finish()
        except BAD_INPUT as error:
            drop_empty_run_folder()
            say_bad_input(error)
            sys.exit(_BAD_INPUT_STATUS)
        except SIGTERMException:
            sys.exit(say_stopped())
