"""What a run leaves behind: its config, its scores, what it retrieved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from itm_lightning.data.source import Source
from itm_lightning.metrics.protocols import Evaluation, Protocol
from itm_lightning.part import to_config
from itm_lightning.utils.atomic_files import remove_unfinished, write_json, write_text

_COLUMNS = ("R@1", "R@5", "R@10", "medr", "meanr")
_FORMATS = {"pairs_accuracy": "minimal pairs {:.1f} %"}
_DIRECTIONS = {"i2t": "photo → caption", "t2i": "caption → photo"}


class RunConfig(Callback):
    """Writes ``config.yaml``, gives W&B the same config nested, and puts it into checkpoints.

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
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(self.config)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config


class Results(Callback):
    """Writes ``metrics.json`` after each evaluation.

    After ``validate`` and ``test`` it prints the retrieval table too, and writes
    ``val_results.json`` or ``test_results.json``, which say how the scores came about.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if trainer.is_global_zero:
            remove_unfinished(self.folder)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:  # a fit in closed form has none
            pl_module.results["train/loss"] = float(loss)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._report(trainer, pl_module, "val", show=trainer.state.fn == "validate")

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test", show=True)

    @rank_zero_only
    def _report(self, trainer: pl.Trainer, module: Any, split: str, show: bool) -> None:
        if module.evaluation is None:
            return  # it has left its features to others
        write_json(self.folder / "metrics.json", _rounded(module.results))
        if show:
            source = trainer.datamodule.source  # type: ignore[attr-defined]
            report = evaluation_report(module.evaluation, module.protocol, source, split)
            write_json(self.folder / f"{split}_results.json", report)
            Console().print(retrieval_table(module.results, split, _title(module, split)))


class RetrievalWriter(Callback):
    """Writes what ``predict`` retrieved: a JSON line for each photo and each caption."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.retrieved is None:
            return  # it has left its features to others
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        texts = {
            text_id: text
            for record in data.records(data.predict_split)
            for text_id, text in zip(record.text_ids, record.texts, strict=True)
        }
        names = {record.image_id: record.location for record in data.records(data.predict_split)}
        gallery, top = pl_module.retrieved
        image_names = [names[i] for i in gallery.image_ids.tolist()]
        text_names = [texts[i] for i in gallery.text_ids.tolist()]
        with self.path.open("w", encoding="utf-8") as lines:
            for query, found in zip(image_names, _named(top.i2t, text_names), strict=True):
                lines.write(json.dumps({"image": query, "texts": found}) + "\n")
            for query, found in zip(text_names, _named(top.t2i, image_names), strict=True):
                lines.write(json.dumps({"text": query, "images": found}) + "\n")
        print(f"wrote {self.path}")


def evaluation_report(
    evaluation: Evaluation, protocol: Protocol, source: Source, split: str
) -> dict[str, Any]:
    """Scores, and all that is needed to compare them with others, as plain values."""
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
    }


def retrieval_table(results: dict[str, float], split: str, title: str) -> Table:
    """The retrieval scores of a split, both directions, R@K in percent."""
    scores = {
        key.removeprefix(f"{split}/"): value
        for key, value in results.items()
        if key.startswith(f"{split}/")
    }
    rows = {
        name: [scores.pop(f"{direction}_{column}") for column in _COLUMNS]
        for direction, name in _DIRECTIONS.items()
    }
    others = (_FORMATS.get(key, key + " {:.1f}").format(value) for key, value in scores.items())
    table = Table(title=title, caption=" · ".join(others))
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in values))
    return table


def _title(module: Any, split: str) -> str:
    scored, name = module.evaluation, type(module.protocol).__name__
    title = f"{split}: {scored.images} photos, {scored.texts} captions · protocol {name}"
    return f"{title} · mean of {scored.models} models" if scored.models > 1 else title


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 6) for key, value in scores.items()}


def _named(top: Any, names: list[str]) -> list[list[dict[str, Any]]]:
    return [
        [{"name": names[i], "score": round(s, 6)} for i, s in zip(row, scores, strict=True)]
        for row, scores in zip(top.indices.tolist(), top.scores.tolist(), strict=True)
    ]
