"""The benchmarks run, small, as anybody runs them; how fast is not for a test to say."""

import json
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from itm_lightning import list_registered

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
SMALL = ("--images", "20", "--batch-size", "8", "--size", "32", "--repeats", "1")
SMALL_REGIONS = ("--regions", "2", "--dim", "4", "--workers", "0", "1")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark as a script; returns what it printed."""

    def _run(script, *flags):
        path = str(BENCHMARKS / script)
        monkeypatch.setattr(sys, "argv", [path, *map(str, flags)])
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return _run


@pytest.mark.slow  # it starts processes that load
def test_data(run, tmp_path):
    plot = tmp_path / "data.png"
    table = run("data.py", *SMALL, *SMALL_REGIONS, "--plot", plot)
    assert "samples per second" in table
    rows = re.findall(r"│ (\w+), (\w+) workers +│(.*)│", table)
    assert [row[:2] for row in rows] == [
        ("images", "no"),
        ("images", "1"),
        ("regions", "no"),
        ("regions", "1"),
    ]
    for *_, cells in rows:
        ours, bare, ratio, spread = (cell.strip().replace(",", "") for cell in cells.split("│"))
        assert int(ours) > 0
        assert int(bare) > 0
        low, high = map(float, spread.split(" - "))
        assert low <= float(ratio) <= high
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # each of the processes that it starts imports everything
def test_startup(run):
    printed = run("startup.py", "--repeats", 1)
    lines = re.findall(r": ([\d.]+) s, ([\d.]+) \(", printed)
    (imports, one), *others = [tuple(map(float, line)) for line in lines]
    assert one == 1
    assert len(others) == 2
    for seconds, ratio in others:
        assert ratio == pytest.approx(seconds / imports, abs=0.02)


def test_similarity(run, tmp_path):
    plot = tmp_path / "heads.png"
    size = ("--images", 4, "--texts", 6, "--regions", 3, "--dim", 16)
    table = run("similarity.py", *size, "--repeats", 1, "--plot", plot)
    for name in list_registered("similarity"):
        (cells,) = re.findall(rf"│ {name} +│(.*)│", table)
        forward, floor, backward, *_ = (cell.strip() for cell in cells.split("│"))
        assert float(forward) > 0
        assert float(backward) > 0
        assert floor.endswith("%")
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_similarity_loops(run):
    images = ("--images", 4, "--sgraf_images", 2, "--cosine_images", 4)
    size = (*images, "--batch", 4, "--regions", 3, "--dim", 16)
    table = run("similarity_loops.py", *size, "--repeats", 1)
    rows = re.findall(r"│ ((?:S|C)[^│]*[^ │]) +│(.*)│", table)
    assert [name.split(",")[0].split(" (")[0] for name, _ in rows] == [
        *("SCAN t2i", "SCAN t2i", "SCAN i2t", "SCAN i2t"),
        *("SGR", "SAF", "Cosine"),
    ]
    for name, cells in rows:
        *_, loop_ratio, product_ratio, _ = (cell.strip() for cell in cells.split("│"))
        assert name.startswith("Cosine") or float(loop_ratio) > 0
        assert float(product_ratio) > 0


@pytest.mark.slow  # it starts processes that import everything
def test_distributed(run):
    size = ("--images", 64, "--batch", 8, "--regions", 3, "--dim", 64, "--processes", 1, 2)
    table = run("distributed.py", *size, "--repeats", 1)
    rows = re.findall(r"│ (\w+, \w+) +│ +(\d) │(.*)│", table)
    names = ("Cosine, ranks", "Cosine, step", "CrossAttention, ranks", "CrossAttention, step")
    assert [row[:2] for row in rows] == [(name, n) for name in names for n in "12"]
    for _, processes, cells in rows:
        seconds, _, received, formula = (float(cell) for cell in cells.split("│"))
        assert seconds > 0
        assert received == pytest.approx(formula, abs=0.1)  # MB; ids are in no formula
        assert (received > 0) <= (processes == "2")
    assert "256" in table.partition("estimated, not measured")[2]


GPU_PARTS = {
    "scan": 15,
    "ranks": 6,
    "step": 5,
    "metrics": 5,
    "heads": len(list_registered("similarity")),
    "fsdp": 1,
    "resume": 1,
}
IN_SUITE = ("scan", "ranks", "step", "metrics")  # test_similarity has the heads


@pytest.mark.parametrize(
    "parts", [IN_SUITE, pytest.param(tuple(GPU_PARTS), marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_on_gpu(run, tmp_path, parts):
    output = tmp_path / "figures.json"
    flags = ("--device", "cpu", "--tiny", "--output", output, "--parts", *parts)
    printed = run("on_gpu.py", *flags)
    measured = json.loads(output.read_text())["rows"]
    assert Counter(row["part"] for row in measured) == {part: GPU_PARTS[part] for part in parts}
    assert not [row for row in measured if "error" in row]
    for row in measured:
        assert f"| {row['part']} | {row['name']} | " in printed
    exact = [row for row in measured if row["name"].startswith("SCAN") and "fp32" in row["name"]]
    assert [row["ranks that differ"] for row in exact] == [0] * 4
    (rsum,) = {row["rsum"] for row in measured if row["name"].endswith("cpu, 32-true")}
    assert 0 < rsum <= 600
    if "resume" in parts:
        fsdp, resumed = measured[-2:]
        assert fsdp["sharded"]
        assert fsdp["off ddp's by"] < 1e-5
        assert resumed["that differ"] == 0 < resumed["tensors"]


def test_on_gpu_goes_on_where_a_measurement_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from on_gpu import Report

    def fail():
        raise RuntimeError("out of\nmemory")

    def measurements():
        yield "too large", fail
        yield "small", lambda: {"s": 0.5}
        fail()

    output = tmp_path / "figures.json"
    Report(output, torch.device("cpu"), tiny=True).add_all("a part", measurements())
    rows = json.loads(output.read_text())["rows"]
    error = "RuntimeError: out of memory"
    assert [row.get("error", row.get("s")) for row in rows] == [error, 0.5, error]
    assert f"| a part | too large | error {error} |" in capsys.readouterr().out


def test_noted_products_are_all_that_there_are(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from matrix_products import MatrixProducts

    left, right, result = torch.rand(2, 3), torch.rand(3, 4), torch.empty(2, 4)
    with MatrixProducts() as noted:
        torch.mm(left, right, out=result)
        result + torch.bmm(left[None], right[None])[0]
    with MatrixProducts() as again:
        noted.replay()
    assert [func.__name__ for func, _ in again._noted] == ["mm.default", "bmm.default"]
