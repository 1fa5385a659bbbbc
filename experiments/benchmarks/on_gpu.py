"""All that a GPU has to show, in one run of about eight minutes: one table, one JSON.

    TQDM_DISABLE=1 python experiments/benchmarks/on_gpu.py --output on_gpu.json
    python experiments/benchmarks/on_gpu.py --device cpu --tiny     # does it run?

Each part is a generator of measurements, in ``on_gpu_parts``: how fast heads rank (``ranking.py``),
what a training step takes (``steps.py``), and whether whole runs do on a GPU what they do elsewhere
(``runs.py``). A measurement that fails is reported with its error, and the others go on. The JSON
is written anew after each, so that little is lost where the machine is taken away; ``--parts``
measures the rest another time.

``first s`` is a first run, which compiles and fetches; ``s`` is a later one. Needs torch,
torchvision, pytorch-lightning, torchmetrics and transformers, and neither network nor data.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # where itm_lightning is not installed

from on_gpu_parts import ranking, runs, steps

from itm_lightning.errors import one_line
from itm_lightning.utils.atomic_files import write_json

PARTS: dict[str, Callable[[torch.device, bool], Iterator[Any]]] = {
    "scan": ranking.scan,
    "ranks": ranking.other_heads,
    "heads": ranking.beside_products,
    "metrics": runs.scores_by_device,
    "fsdp": runs.sharded,
    "resume": runs.killed_and_resumed,
    "step": steps.training_steps,  # the last: its networks take longest to compile
}
SECONDS = 480  # what would begin later is left out


def main() -> None:
    """Measures part after part."""
    arguments = _arguments()
    device, tiny = torch.device(arguments.device), arguments.tiny
    report = Report(arguments.output, device, tiny)
    stance = "force_eager" if tiny else "default"  # compiling takes a minute, however tiny
    with _quiet(), torch.compiler.set_stance(stance):
        for part in arguments.parts:
            torch.manual_seed(0)
            report.add_all(part, PARTS[part](device, tiny))
    print(f"\nwrote {arguments.output}; {report.failed} measurements failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda", help="cuda, or cpu")
    parser.add_argument("--tiny", action="store_true", help="seconds, and figures that say nothing")
    parser.add_argument("--output", type=Path, default=Path("on_gpu.json"), help="JSON")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch sees no GPU here: give --device cpu --tiny")
    return arguments


class Report:
    """A table whose rows are printed as they are measured, and the same as JSON.

    Args:
        path: of the JSON.
        device: on which all is measured.
        tiny: whether the sizes are such that figures say nothing.

    Attributes:
        failed: how many measurements did.
    """

    def __init__(self, path: Path, device: torch.device, tiny: bool) -> None:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        self.failed = 0
        self._path, self._device = path, device
        self._rows: list[dict[str, Any]] = []
        self._about = {"device": name, "torch": torch.__version__, "tiny": tiny}
        self._start = time.perf_counter()
        print(f"{name}, torch {torch.__version__}{', tiny' if tiny else ''}\n")
        print("| part | what | measured |\n|---|---|---|")

    def add_all(self, part: str, measurements: Iterator[tuple[str, Callable[[], Any]]]) -> None:
        """Measures what a part has, each whether or not another failed."""
        try:
            for name, measure in measurements:
                self._add(part, name, measure)
        except Exception as error:  # before it had anything to measure
            self._write(part, "", _failure(error))

    def _add(self, part: str, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        if time.perf_counter() - self._start > SECONDS:
            return self._write(part, name, {"left out": f"after {SECONDS} s"})
        try:
            figures = measure()
        except Exception as error:
            figures = _failure(error)
        if self._device.type == "cuda":
            gc.collect()  # a model and its optimiser refer to each other
            torch.cuda.empty_cache()
        self._write(part, name, figures)

    def _write(self, part: str, name: str, figures: dict[str, Any]) -> None:
        self.failed += "error" in figures
        taken = time.perf_counter() - self._start
        self._rows.append({"part": part, "name": name, **figures, "at second": taken})
        shown = ", ".join(f"{key} {_short(value)}" for key, value in figures.items())
        print(f"| {part} | {name} | {shown} |", flush=True)
        write_json(self._path, {**self._about, "rows": self._rows})


def _failure(error: Exception) -> dict[str, str]:
    return {"error": f"{type(error).__name__}: {one_line(error)}"}


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's and torch's remarks, which would stand between the table's rows."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    main()
