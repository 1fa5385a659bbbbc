"""What every run writes into its folder: its config and its scores."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from itm_lightning.data.source import Source
from itm_lightning.evaluating import RetrievalModule
from itm_lightning.metrics.protocols import Evaluation, Protocol
from itm_lightning.part import to_config
from itm_lightning.utils.atomic_files import remove_unfinished, replacing, write_json, write_text

_COLUMNS = ("R@1", "R@5", "R@10", "medr", "meanr")
_FORMATS = {"pairs_accuracy": "minimal pairs {:.1f} %", "loss": "loss {:.3f}"}
_FRACTION = re.compile(r"(mAP|NDCG|P@H)(@?\d+)?$")  # ECCV Caption's mAP@R is a percentage
_DIRECTIONS = {"i2t": "image → text", "t2i": "text → image"}


class RunConfig(Callback):
    """Writes the config to ``config.yaml`` and into every checkpoint.

    Args:
        folder: the run's.
        config: plain values.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self._is_written = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self._is_written or not trainer.is_global_zero:
            return
        self._is_written = True
        write_text(self.folder / "config.yaml", yaml.safe_dump(self.config, sort_keys=False))

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config


class Results(Callback):
    """Writes ``metrics.json`` after each evaluation.

    After ``validate`` and ``test`` (here ``test``) it also prints the retrieval table and writes
    ``test_results.json``, which says how the scores were computed, and ``test_ranks.npz``, the
    arrays of :attr:`~itm_lightning.metrics.protocols.Evaluation.per_query`. ``timing.json`` has the
    seconds of training with its validation epochs, over all starts of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seconds = 0.0  # of training, over all starts of the run, up to the last checkpoint
        self._since: float | None = None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if trainer.is_global_zero:
            remove_unfinished(self.folder)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._since = time.monotonic()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._seconds, self._since = self._trained_seconds(), None
        if trainer.is_global_zero:
            write_json(self.folder / "timing.json", {"train_seconds": round(self._seconds, 3)})

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._trained_seconds()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds = state_dict["seconds"]

    def _trained_seconds(self) -> float:
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:  # a fit in closed form has none
            pl_module.results["train/loss"] = float(loss)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        self._write_metrics(pl_module)
        if trainer.state.fn == "validate":
            self._report(pl_module, "val")

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._write_metrics(pl_module)
        self._report(pl_module, "test")

    @rank_zero_only
    def _write_metrics(self, module: RetrievalModule) -> None:
        write_json(self.folder / "metrics.json", _rounded(module.results))

    @rank_zero_only
    def _report(self, module: RetrievalModule, split: str) -> None:
        evaluation = module.evaluation
        assert evaluation is not None  # the epoch before this call leaves one
        report = evaluation_report(evaluation, module.protocol, module.data.source, split)
        write_json(self.folder / f"{split}_results.json", report)
        arrays: dict[str, Any] = {name: a.numpy() for name, a in evaluation.per_query.items()}
        with replacing(self.folder / f"{split}_ranks.npz") as file:
            np.savez_compressed(file, **arrays)
        title = _title(evaluation, module.protocol, split)
        Console().print(retrieval_table(evaluation.scores, title))
        if evaluation.hub_correction is not None:
            name, bank = type(module.hub_correction).__name__, evaluation.hub_correction["bank"]
            bank_size = f"{bank['images']} images, {bank['texts']} texts of train"
            title = f"{title}\nhubs corrected by {name}\nbank: {bank_size}"
            Console().print(retrieval_table(evaluation.hub_correction["scores"], title))


def evaluation_report(
    evaluation: Evaluation, protocol: Protocol, source: Source, split: str
) -> dict[str, Any]:
    """The scores and what is needed to compare them with others, as plain values."""
    fewest, most = evaluation.texts_per_image
    return {
        "protocol": to_config(protocol),
        "dataset": to_config(source),
        "split": split,
        "models": evaluation.models,
        "images": evaluation.images,
        "texts": evaluation.texts,
        "texts_per_image": {"min": fewest, "max": most},
        "queries": evaluation.queries,
        "scores": _rounded(evaluation.scores),
        "hub_correction": evaluation.hub_correction,
    }


def retrieval_table(scores: Mapping[str, float], title: str) -> Table:
    """The scores of an evaluation, both directions, R@K in percent."""
    scores = dict(scores)
    rows = {
        name: [scores.pop(f"{direction}_{column}") for column in _COLUMNS]
        for direction, name in _DIRECTIONS.items()
    }
    # scores by class are fractions, all others are percentages and ranks
    plain = {key: f"{key} {{:{'.4f' if _FRACTION.search(key) else '.1f'}}}" for key in scores}
    others = (_FORMATS.get(key, plain[key]).format(value) for key, value in scores.items())
    table = Table(title=title, caption=" · ".join(others))
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in values))
    return table


def _title(evaluation: Evaluation, protocol: Protocol, split: str) -> str:
    name = type(protocol).__name__
    title = f"{split}: {evaluation.images} images, {evaluation.texts} texts · protocol {name}"
    models = evaluation.models
    return f"{title} · mean of {models} models" if models > 1 else title


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 6) for key, value in scores.items()}
