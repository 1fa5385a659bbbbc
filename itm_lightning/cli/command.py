"""The command line: ``lightning fit | validate | test | predict | extract --config …``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.callbacks import (
    EpochLines,
    Measurements,
    ModelTable,
    Results,
    RetrievalWriter,
    RunConfig,
    WandbMedia,
    WandbRun,
)
from itm_lightning.cli.checkpoint_config import (
    GivenCheckpoint,
    add_checkpoint_flags,
    start_from,
    with_checkpoint_config,
)
from itm_lightning.cli.early_args import (
    check_configs,
    command_of,
    configs_first,
    dim_of_head,
    option,
)
from itm_lightning.cli.errors import (
    FailureCallback,
    OneLineParser,
    refused_arguments,
)
from itm_lightning.cli.help import CommandHelp
from itm_lightning.cli.loggers import loggers_of
from itm_lightning.cli.predicting import add_predict_flags, set_prediction
from itm_lightning.cli.processes import check_processes, is_first
from itm_lightning.cli.resumed_config import changes_since, check_resumed_config
from itm_lightning.cli.runs import (
    begin_run,
    joined_fit,
    known_run,
    new_run,
)
from itm_lightning.cli.stopping import (
    PreemptionCallback,
    ResumeCallback,
)
from itm_lightning.cli.trainer import (
    ITMTrainer,
    check_settings,
    configure_strategy,
    needs_lines,
    refused_settings,
    why_unscored,
)
from itm_lightning.errors import InputError, printable
from itm_lightning.metrics.protocols import Protocol
from itm_lightning.registry import list_registered
from itm_lightning.resume import BestCheckpoint, Cadence, LastCheckpoint
from itm_lightning.resume.run import Run
from itm_lightning.similarity import HubCorrection
from itm_lightning.training.checkpoint import read_checkpoint
from itm_lightning.training.trainer_rules import check_trainer


class ITMCLI(LightningCLI):
    """LightningCLI for the Matcher: a folder a run, and flags > YAML > checkpoint."""

    def __init__(self, args: Sequence[str], run: bool = True) -> None:
        every = self.subcommands()
        if args and args[0] in every:  # the options of each of the others would take 0.1 s
            self.subcommands = lambda: {args[0]: every[args[0]]}  # type: ignore[method-assign]
        self.checkpoint: GivenCheckpoint | None = None  # that of --ckpt_path
        self.run: Run | None = None
        self.joined: Run | None = None  # the fit whose run in W&B a test joins
        self.last: Path | None = None  # the checkpoint from which the run is resumed
        super().__init__(
            Matcher,
            ITMDataModule,
            save_config_callback=None,  # RunConfig instead
            trainer_class=ITMTrainer,
            trainer_defaults={"default_root_dir": "runs"},
            seed_everything_default=0,
            parser_kwargs={
                "prog": "lightning",
                "allow_abbrev": False,
                "formatter_class": CommandHelp,
            },
            parser_class=OneLineParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(args),
            run=run,
        )

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        skipped = LightningCLI.subcommands() | {"extract": {"model", "datamodule"}}
        for command in ("validate", "test"):
            skipped[command].add("verbose")  # our table is printed instead of Lightning's
        return skipped

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
        parser.add_argument(
            "--hub_correction",
            type=HubCorrection | None,
            default=None,
            help="Scores validate and test a second time, by a bank from the train split: "
            f"{', '.join(list_registered('hub_correction'))}.",
        )
        parser.add_class_arguments(Cadence, "last_checkpoint")
        add_checkpoint_flags(parser)
        parser.add_class_arguments(WandbMedia, "wandb_media")
        add_predict_flags(parser)
        parser.add_argument(
            "--run_name",  # not --run: torchrun would take it for a short form of its --run-path
            type=str | None,
            default=None,
            help="Name of the run's folder; a fit of that name that was stopped is resumed.",
        )

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        check_configs(args)
        given = configs_first(args, self.subcommands())
        command = command_of(given, self.subcommands())
        if command not in (None, "extract"):
            self.run = known_run(given, str(command))
            self.last = self.run.last if self.run else None
        started_from = option(given, "ckpt_path")
        args, self.checkpoint = with_checkpoint_config(given, self.subcommands(), self.last)
        self.joined = joined_fit(given, command, option(args, "ckpt_path"))
        # sys.argv holds the same arguments; Lightning warns where both are given
        argv, sys.argv = sys.argv, sys.argv[:1]
        try:
            super().parse_arguments(parser, args)
        finally:
            sys.argv = argv
        chosen = self.config[command] if command else self.config
        seed = chosen.get("seed_everything")
        if isinstance(seed, int) and not 0 <= seed < 2**32:
            raise InputError(f"seed_everything is {seed}; it must lie in 0 … {2**32 - 1}")
        if self.last:
            chosen["ckpt_path"] = started_from  # of the run, not of this start

    @override
    def before_instantiate_classes(self) -> None:
        settings = self.config[self.subcommand]["trainer"]
        check_settings(settings)
        if not settings["plugins"]:  # a ClusterEnvironment may be among them
            check_processes(settings["devices"], settings["num_nodes"], settings["accelerator"])
        self.plain = self.plain_config()
        if self.run is not None:
            check_resumed_config(self.run, self.plain)
        if self.checkpoint is not None and self.subcommand == "fit":
            for change in changes_since(self.checkpoint, self.plain):
                print(printable(f"resumed with {change}"))
        if self.run is None:
            return
        if self.run.state.get("finished"):
            if is_first():
                print(f"{self.run.folder} is complete: nothing to do")
            sys.exit()

    def plain_config(self) -> dict[str, Any]:
        """The config as plain values, without the run's name: another run may have the same."""
        # Links set their targets again at the next parse, so they are left out.
        with refused_arguments():
            text = self.parser.dump(self.config, skip_none=False, skip_link_targets=True)
        config = yaml.safe_load(text)
        config = config[self.subcommand] if self.subcommand else config
        return {key: value for key, value in config.items() if key != "run_name"}

    @override
    def instantiate_classes(self) -> None:
        given, model = self.checkpoint, self.plain["model"]
        with given.building(model) if given else nullcontext(), refused_arguments():
            super().instantiate_classes()
        configure_strategy(self.trainer)
        check_trainer(self.trainer, self.model)
        config = self.config_init[self.subcommand]
        if given:
            given.fill(self.model, model)
        if config["start_from"] and not self.last:
            start_from(self.model, config["start_from"])
        if config["ensemble"].checkpoints:
            load = config["ensemble"].load
            self.model = load(self.subcommand, self.model, config.get("ckpt_path"))
        self.model.protocol = config["protocol"]
        self.model.hub_correction = config["hub_correction"]
        set_prediction(config["predict"], str(self.subcommand), self.model, self.datamodule)
        if self.subcommand == "fit":
            config["ckpt_path"] = str(self.last) if self.last else config["ckpt_path"]
        elif given:
            config["ckpt_path"] = None  # its weights are loaded, and nothing else is read of it

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        if self.subcommand == "extract":  # it writes into its --output, and runs no loop
            return super().instantiate_trainer(logger=False, enable_checkpointing=False)
        settings = self.config_init[self.subcommand]["trainer"]
        self.run = self.run or new_run(Path(settings["default_root_dir"]), str(self.subcommand))
        if is_first():
            begin_run(self.run, self.joined)
            print(f"run folder: {self.run.folder}" + (f", from {self.last}" if self.last else ""))
        fit = self.joined  # W&B shows it where a test joins it, and else this run
        shown, config = (fit, fit.config) if fit else (self.run, self.plain)
        told = WandbRun(config | {"run_name": shown.folder.name}, joins=shown is not self.run)
        self.trainer_defaults["callbacks"] = [*self._callbacks(self.run.folder), told]
        with refused_settings():
            logger = loggers_of(settings["logger"], self.run, shown, config)
            # ModelTable is printed instead of Lightning's summary.
            return super().instantiate_trainer(logger=logger, enable_model_summary=False, **kwargs)

    def _callbacks(self, folder: Path) -> list[Callback]:
        """What each run has, in the order in which Lightning calls them."""
        config, last = self.config_init[self.subcommand], None
        checkpoints: list[Callback] = []
        if config["trainer"]["enable_checkpointing"] is not False and self.subcommand == "fit":
            last = LastCheckpoint(folder / "checkpoints" / "last.ckpt", config["last_checkpoint"])
            best = BestCheckpoint(folder / "checkpoints", config["protocol"].monitor or "rsum")
            checkpoints = [best, last]
        return [
            FailureCallback(),
            ResumeCallback(self.last),
            PreemptionCallback(last),
            Results(folder),
            Measurements(config["trainer"]["log_every_n_steps"]),
            config["wandb_media"],
            RetrievalWriter(folder / "predictions.jsonl"),
            *([] if config["trainer"]["enable_model_summary"] is False else [ModelTable()]),
            *([EpochLines()] if needs_lines(config["trainer"]) else []),
            *checkpoints,
            RunConfig(folder, self.plain),
        ]

    def finish(self) -> None:
        """Records that the run has done all that it was started for."""
        if self.run and is_first() and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.run.finish()

    def validate(self, **kwargs: Any) -> None:
        """Scores the validation split."""
        self.trainer.validate(verbose=False, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Scores the test split."""
        self.trainer.test(verbose=False, **kwargs)

    def after_fit(self) -> None:
        """Scores the best checkpoint, on val and, where the source has one, on the test split."""
        if not (best := getattr(self.trainer.checkpoint_callback, "best_model_path", "")):
            if is_first():
                print(f"no table of scores, as {why_unscored(self.trainer)}")
            return
        read_checkpoint(Path(best), f"the best checkpoint {best}")  # another run's may be the best
        score = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": best}
        if self.datamodule.has_split("val"):
            # the protocol may be for the test split alone
            protocol, self.model.protocol = self.model.protocol, self.model.protocol_of_epochs
            self.validate(**score)
            self.model.protocol, score["ckpt_path"] = protocol, None  # it has its weights by now
        if self.datamodule.has_split("test"):
            self.test(**score)
