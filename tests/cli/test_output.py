"""What a run prints and logs besides its scores."""

import csv
import logging
import warnings

import pytest
import torch
from torch import nn

from itm_lightning.callbacks.progress import model_table, parameter_counts
from itm_lightning.cli.console import filter_warnings
from itm_lightning.cli.loggers import MetricsCSV
from itm_lightning.similarity import Bilinear

RANK_ZERO = "pytorch_lightning.utilities.rank_zero"
READING = "pytorch_lightning.trainer.connectors.checkpoint_connector"


@pytest.fixture
def filtered():
    """Loggers and warnings as in a run; the filters are removed afterwards."""
    loggers = [logging.getLogger(name) for name in (RANK_ZERO, READING)]
    before = [list(logger.filters) for logger in loggers]
    with warnings.catch_warnings():
        filter_warnings()
        yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters[:] = filters


@pytest.mark.parametrize(
    ("name", "line", "comes_through"),
    [
        (RANK_ZERO, "Loading `train_dataloader` to estimate number of stepping batches.", False),
        (RANK_ZERO, "Restoring states from the checkpoint path at best.ckpt", False),
        (RANK_ZERO, "Loaded model weights from the checkpoint at best.ckpt", True),
        (RANK_ZERO, "`Trainer.fit` stopped: `max_epochs=1` reached.", True),
        (READING, "`weights_only` was not set, defaulting to `False`.", False),
        (READING, "The state was saved by another release.", True),
    ],
)
def test_only_lines_without_use_are_left_out(filtered, name, line, comes_through):
    record = logging.LogRecord(name, logging.INFO, __file__, 1, line, None, None)
    assert bool(logging.getLogger(name).filter(record)) == comes_through


def test_other_warnings_come_through(filtered):
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("predict returned None", stacklevel=1)
        warnings.warn("The number of training batches (10) is smaller", stacklevel=1)
    assert [str(warning.message)[:10] for warning in caught] == ["The number"]


def test_the_table_counts_parameters_of_parts():
    model = nn.ModuleDict({"similarity": Bilinear(3), "other": nn.Linear(2, 2)})
    model["other"].requires_grad_(False)
    head = sum(parameter.numel() for parameter in model["similarity"].parameters())
    assert head > 0
    assert parameter_counts(model) == (head + 6, head)
    parts, *_ = model_table(model).columns
    assert list(parts.cells) == ["similarity", ""]  # the last row is the sum


def rows(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_metrics_continue_with_new_columns_and_without_the_steps_to_do_again(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in range(3):
        logger.log_metrics({"train/loss": step / 2}, step)
    logger.save()
    again = MetricsCSV(tmp_path)  # the run's next start
    again.forget_from(2)
    again.log_metrics({"val/rsum": 5.0}, 2)
    again.save()
    again.save()  # nothing is written twice
    assert rows(tmp_path / "metrics.csv") == [
        {"step": "0", "train/loss": "0.0", "val/rsum": ""},
        {"step": "1", "train/loss": "0.5", "val/rsum": ""},
        {"step": "2", "train/loss": "", "val/rsum": "5.0"},
    ]


def test_metrics_are_saved_before_the_end(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in range(150):
        logger.log_metrics({"train/loss": torch.tensor(1.0).item()}, step)
    assert len(rows(tmp_path / "metrics.csv")) == 100
