"""What a run says of its progress: a bar on a terminal, lines in a log."""

import csv
import io
import re
import sys

import pytest

from itm_lightning.callbacks.progress import duration
from itm_lightning.utils import progress_bars

LINE = re.compile(
    r"epoch (\d)/2 · loss ([\d.]+) · val rsum ([\d.]+) \((best(?: [\d.]+)?)\) · [\d.]+ s"
    r"( · about [\d.]+ s left)?"
)


@pytest.fixture
def two_epochs(tiny_config):
    tiny_config["trainer"] |= {"max_epochs": 2, "log_every_n_steps": 1}
    del tiny_config["trainer"]["enable_progress_bar"]
    return tiny_config


def test_a_log_gets_one_line_an_epoch_and_no_bar(run, two_epochs, capsys):
    folder = run("fit", "--config", two_epochs)
    printed = capsys.readouterr()
    assert "\r" not in printed.out + printed.err
    lines = [line for line in printed.out.splitlines() if line.startswith("epoch ")]
    epochs = [LINE.fullmatch(line) for line in lines]
    assert all(epochs), lines
    assert [line[1] for line in epochs] == ["1", "2"]
    assert [bool(line[5]) for line in epochs] == [True, False]  # nothing is left after the last
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    rsums = [float(row["val/rsum"]) for row in rows if row["val/rsum"]][:2]
    assert [float(line[3]) for line in epochs] == pytest.approx(rsums, abs=0.05)
    assert epochs[0][4] == "best"
    assert epochs[1][4] == ("best" if rsums[1] >= rsums[0] else f"best {rsums[0]:.1f}")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    half = len(losses) // 2
    means = [sum(part) / half for part in (losses[:half], losses[half:])]
    assert [float(line[2]) for line in epochs] == pytest.approx(means, rel=1e-3)


def test_a_terminal_keeps_the_bar(run, two_epochs, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    two_epochs["trainer"]["fast_dev_run"] = True
    run("fit", "--config", two_epochs)
    printed = capsys.readouterr().out
    assert "Epoch 0/0" in printed
    assert "epoch 1" not in printed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (9.96, "10 s"), (62, "62 s"), (300, "5 min"), (12_000, "3 h 20 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds_a_line", "is_long"), [(0.0, True), (60.0, False)])
def test_only_long_work_writes_lines_into_a_log(monkeypatch, seconds_a_line, is_long):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(progress_bars, "_SECONDS_A_LINE", seconds_a_line)
    with progress_bars.progress_bar(total=4, desc="extract", unit="photo") as bar:
        for _ in range(2):
            bar.update(2)
    assert "\r" not in log.getvalue()
    lines = log.getvalue().splitlines()
    assert all(line.startswith("extract: ") for line in lines)
    assert any("4/4" in line for line in lines) == is_long
