"""Loggers that go on where the run was stopped."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from typing_extensions import override

from itm_lightning.cli.runs import Run
from itm_lightning.utils.atomic_files import replacing


def loggers_of(chosen: Any, run: Run) -> list[Logger] | bool:
    """The loggers of the YAML, and ``metrics.csv`` beside them.

    Args:
        chosen: ``trainer.logger`` of the config.
        run: whose id W&B's run gets, unless the config says another.
    """
    if chosen is False:
        return False
    others = [] if chosen in (None, True) else chosen if isinstance(chosen, list) else [chosen]
    for logger in others:
        if isinstance(logger, WandbLogger) and logger.version is None:
            # WandbLogger takes it in its constructor only, and that was called by the parser
            logger._id = logger._wandb_init["id"] = run.state.get("wandb_id")
    return [*others, MetricsCSV(run.folder)]


class MetricsCSV(CSVLogger):
    """Writes ``metrics.csv``, after the rows of the run's earlier starts.

    Args:
        folder: where it lies.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self.path = folder / ExperimentWriter.NAME_METRICS_FILE

    @property
    @rank_zero_experiment
    @override
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _Appending(self.log_dir)
        return self._experiment  # type: ignore[return-value]

    def forget_from(self, step: int) -> None:
        """Removes the rows of steps that will be done again: the process was killed after them."""
        if not self.path.is_file():
            return
        with self.path.open(newline="") as lines:
            reader = csv.DictReader(lines)
            header = list(reader.fieldnames or [])
            rows = [row for row in reader if int(row["step"]) < step]
        with replacing(self.path) as file:
            text = [header, *([row[name] for name in header] for row in rows)]
            file.write("".join(f"{','.join(fields)}\r\n" for fields in text).encode())


class _Appending(ExperimentWriter):
    """Leaves the file that is there, and knows its columns."""

    @override
    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as lines:
                self.metrics_keys = next(csv.reader(lines), [])
