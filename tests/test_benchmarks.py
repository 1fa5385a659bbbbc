"""The benchmarks run, small, as anybody runs them; how fast is not for a test to say."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
SMALL = ("--photos", "20", "--batch-size", "8", "--size", "32", "--repeats", "1")
SMALL_REGIONS = ("--regions", "2", "--dim", "4", "--workers", "0", "1")


def run(script, *flags):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, flags)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_data(tmp_path):
    plot = tmp_path / "data.png"
    table = run("data.py", *SMALL, *SMALL_REGIONS, "--plot", plot)
    assert "16 photos: samples per second" in table  # whole batches
    rows = re.findall(r"│ (\w+), (\w+) workers +│(.*)│", table)
    assert [row[:2] for row in rows] == [
        ("photos", "no"),
        ("photos", "1"),
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
