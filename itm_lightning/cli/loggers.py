"""Loggers that continue where the run was stopped."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.resume.run import Run
from itm_lightning.utils.atomic_files import replacing
from itm_lightning.utils.text_files import read_utf8

#: What W&B takes from the environment where its logger was not told: a run's id, display name,
#: group, tags and job type.
WANDB_VARIABLES = "WANDB_RUN_ID", "WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_JOB_TYPE"
_ROWS_AT_ONCE = 100


def loggers_of(chosen: Any, run: Run, shown: Run, config: dict[str, Any]) -> list[Logger] | bool:
    """The loggers of the YAML, and ``metrics.csv`` beside them.

    Args:
        chosen: ``trainer.logger`` of the config.
        run: has the folder of ``metrics.csv``.
        shown: the run that W&B shows: this one, or the fit that a test joins. What the user left
            open is named after it: id, display name, group, tags and job type.
        config: of that run.
    """
    if chosen is False:
        return False
    others = [] if chosen in (None, True) else chosen if isinstance(chosen, list) else [chosen]
    if any(isinstance(logger, WandbLogger) for logger in others) and shown.wandb_id:
        os.environ["WANDB_RUN_ID"] = shown.wandb_id
        head, dataset = _head_and_dataset(config)
        names = shown.folder.name, f"{dataset}-{head}", f"{head},{dataset}", shown.command
        for variable, value in zip(WANDB_VARIABLES[1:], names, strict=True):
            os.environ.setdefault(variable, value)
    return [*others, MetricsCSV(run.folder)]


def _head_and_dataset(config: dict[str, Any]) -> tuple[str, str]:
    """The class of the head; and the name of the source's folder or, where it has none, class."""
    source = config["data"]["source"]
    head = config["model"]["similarity"] or {"class_path": "Cosine"}  # the Matcher's default
    classes = (part["class_path"].rpartition(".")[2] for part in (head, source))
    root = Path(source.get("init_args", {}).get("root") or "").name
    head_class, source_class = classes
    return head_class, root or source_class


class MetricsCSV(Logger):
    """Writes all that is logged into ``metrics.csv``, after the rows of the run's earlier starts.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._unsaved: list[dict[str, Any]] = []
        self._is_whole = False  # until it has been written: an earlier start may have torn it

    @property
    @override
    def name(self) -> str:
        return ""

    @property
    @override
    def version(self) -> str:
        return ""

    @property
    @override
    def save_dir(self) -> str:
        return str(self.path.parent)

    @override
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """``config.yaml`` has them."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._unsaved.append({**metrics, "step": step})
        if len(self._unsaved) >= _ROWS_AT_ONCE:
            self.save()

    @override
    @rank_zero_only
    def save(self) -> None:
        if not self._unsaved:
            return
        rows, self._unsaved = self._unsaved, []
        columns, stored = self._read()
        new = set().union(*rows) - set(columns)
        if new or not self._is_whole:
            self._write(sorted({*columns, *new}), [*stored, *rows])
            self._is_whole = True
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, columns).writerows(rows)

    def forget_from(self, step: int) -> None:
        """Removes the rows of steps that will be done again: the process was killed after them."""
        columns, rows = self._read()
        if columns:
            self._write(columns, [row for row in rows if int(row["step"]) < step])

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        """The columns and rows of the file; none where there is no file, or it is empty.

        A last row that a loss of power has cut short is left out.

        Raises:
            InputError: it has no steps, so that others wrote it.
        """
        if not self.path.is_file():
            return [], []
        lines = read_utf8(self.path).replace("\0", "").splitlines(keepends=True)
        reader = csv.DictReader(line for line in lines if line.endswith("\n"))
        rows = [row for row in reader if None not in (*row, *row.values())]
        columns = list(reader.fieldnames or [])
        if columns and "step" not in columns:
            raise InputError(
                f"{self.path} has no column 'step', so it is of no run: move it elsewhere, or give "
                "another --run_name"
            )
        return columns, rows

    def _write(self, columns: list[str], rows: Iterable[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        with replacing(self.path) as file:
            file.write(text.getvalue().encode())
