"""What a run leaves behind: its config, its last checkpoint, its scores, what it retrieved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser, SaveConfigCallback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from typing_extensions import override

_COLUMNS = ("R@1", "R@5", "R@10", "medr", "meanr")
_DIRECTIONS = {"i2t": "photo → caption", "t2i": "caption → photo"}


class RunConfig(SaveConfigCallback):
    """Writes ``config.yaml``, gives W&B the same config nested, and puts it into checkpoints."""

    def __init__(
        self, parser: LightningArgumentParser, config: Any, folder: Path, **kwargs: Any
    ) -> None:
        super().__init__(parser, config, **kwargs)
        self.folder = folder
        # Links fill their targets in again at the next parse, so they are left out.
        text = parser.dump(config, skip_none=False, skip_link_targets=True, format="yaml")
        self.plain: dict[str, Any] = yaml.safe_load(text)

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        (self.folder / self.config_filename).write_text(yaml.safe_dump(self.plain, sort_keys=False))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(self.plain)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.plain


class SaveLastOnException(Callback):
    """Writes ``last.ckpt`` when fit is interrupted, so that ``--ckpt_path last`` goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if trainer.training and trainer.global_step > 0:
            trainer.save_checkpoint(self.path)
            print(f"\nstopped at step {trainer.global_step}; saved {self.path}")


class Results(Callback):
    """Writes ``metrics.json`` and prints the retrieval table after each evaluation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.results["train/loss"] = float(trainer.callback_metrics["train/loss"])

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._report(trainer, pl_module, "val", show=trainer.state.fn == "validate")

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test", show=True)

    @rank_zero_only
    def _report(self, trainer: pl.Trainer, module: Any, split: str, show: bool) -> None:
        rounded = {key: round(value, 6) for key, value in module.results.items()}
        self.path.write_text(json.dumps(rounded, indent=2) + "\n")
        if show:
            records = trainer.datamodule.records(split)  # type: ignore[attr-defined]
            n_captions = sum(len(record.captions) for record in records)
            title = f"{split}: {len(records)} photos, {n_captions} captions"
            Console().print(retrieval_table(module.results, split, title))


class RetrievalWriter(Callback):
    """Writes what ``predict`` retrieved: a JSON line for each photo and each caption."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        texts = {
            caption_id: caption
            for record in data.records(data.predict_split)
            for caption_id, caption in zip(record.caption_ids, record.captions, strict=True)
        }
        names = {record.image_id: record.location for record in data.records(data.predict_split)}
        gallery, top = pl_module.retrieved
        photos = [names[i] for i in gallery.image_ids.tolist()]
        captions = [texts[i] for i in gallery.text_ids.tolist()]
        with self.path.open("w", encoding="utf-8") as lines:
            for query, found in zip(photos, _named(top.i2t, captions), strict=True):
                lines.write(json.dumps({"photo": query, "captions": found}) + "\n")
            for query, found in zip(captions, _named(top.t2i, photos), strict=True):
                lines.write(json.dumps({"caption": query, "photos": found}) + "\n")
        print(f"wrote {self.path}")


def retrieval_table(results: dict[str, float], split: str, title: str) -> Table:
    """The retrieval scores of a split, both directions, R@K in percent."""
    pairs = results.get(f"{split}/pairs_accuracy")
    caption = f"rsum {results[f'{split}/rsum']:.1f}"
    if pairs is not None:
        caption += f" · minimal pairs {pairs:.1f} %"
    table = Table(title=title, caption=caption)
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for direction, name in _DIRECTIONS.items():
        values = (results[f"{split}/{direction}_{column}"] for column in _COLUMNS)
        table.add_row(name, *(f"{value:.1f}" for value in values))
    return table


def _named(top: Any, names: list[str]) -> list[list[dict[str, Any]]]:
    return [
        [{"name": names[i], "score": round(s, 6)} for i, s in zip(row, scores, strict=True)]
        for row, scores in zip(top.indices.tolist(), top.scores.tolist(), strict=True)
    ]
