"""Our loader beside bare loops that only read what it has to read.

    python experiments/benchmarks/data.py --root path/to/flickr8k --plot data.png

An epoch of training, one caption a photo. *Photos*: the loop decodes and resizes the same JPEG
files in the same number of processes, and keeps nothing. *Regions*: it copies the same rows out of
the memory map, a batch at a time. The files are in the system's cache, and the processes are there
before the clock runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bare_loops import decode_and_resize, processes, read_rows
from made_up_data import painted_images, random_regions
from rich.console import Console
from rich.table import Table
from side_by_side import Seconds, in_turns

from itm_lightning.data import ITMDataModule, Karpathy, Precomputed
from itm_lightning.data.source import Source
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.encoders import ImageEncoder, RegionFeatures, TorchvisionCNN

#: How many samples, and the times of our loader and of the bare loop.
Times = tuple[int, Seconds, Seconds]


def main() -> None:
    """Prints the table, and plots it."""
    arguments = _arguments()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        images = _image_source(arguments, Path(folder) / "photos")
        shape = arguments.images, arguments.regions, arguments.dim
        regions = random_regions(Path(folder) / "regions", *shape)
        times = {
            f"{name}, {workers or 'no'} workers": beside(arguments, source, workers)
            for name, beside, source in (
                ("images", _beside_images, images),
                ("regions", _beside_regions, regions),
            )
            for workers in arguments.workers
        }
    _print(times)
    if arguments.plot:
        _plot(arguments.plot, times)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="a Karpathy dataset; made-up photos without")
    parser.add_argument("--images", type=int, default=1024, help="of made-up data")
    parser.add_argument("--side", type=int, default=384, help="of made-up photos, in pixels")
    parser.add_argument("--size", type=int, default=224, help="of the resized photos, in pixels")
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="PNG")
    return parser.parse_args()


def _image_source(arguments: argparse.Namespace, root: Path) -> ImageFileSource:
    if arguments.root:
        return Karpathy(arguments.root)
    return painted_images(root, arguments.images, arguments.side)


def _beside_images(arguments: argparse.Namespace, source: ImageFileSource, workers: int) -> Times:
    paths = [source.image_folder / record.location for record in source.records("train")]
    size = arguments.batch_size
    items = [paths[k : k + size] for k in range(0, len(paths) - size + 1, size)]
    encoder = TorchvisionCNN("squeezenet1_1", image_size=arguments.size)
    bare = partial(decode_and_resize, arguments.size)
    return _beside(arguments, workers, source, encoder, bare, items)


def _beside_regions(arguments: argparse.Namespace, source: Precomputed, workers: int) -> Times:
    rows = torch.randperm(len(source.records("train"))).split(arguments.batch_size)
    items = [batch.numpy() for batch in rows if len(batch) == arguments.batch_size]
    bare = partial(read_rows, source.root / "train_ims.npy")
    return _beside(arguments, workers, source, RegionFeatures(arguments.dim), bare, items)


def _beside(
    arguments: argparse.Namespace,
    workers: int,
    source: Source,
    encoder: ImageEncoder,
    bare: Callable[[Any], None],
    items: Sequence[Any],
) -> Times:
    data = ITMDataModule(source, arguments.batch_size, workers, one_text=True).connect(encoder)
    loader = data.train_dataloader()

    def ours() -> None:
        for _ in loader:
            pass

    with processes(workers) as each:
        runs = {"ours": ours, "bare": partial(each, bare, items)}
        times = in_turns(runs, arguments.repeats, title=f"{workers} workers")
    return len(loader) * arguments.batch_size, times["ours"], times["bare"]


def _print(times: dict[str, Times]) -> None:
    table = Table(title="samples per second, and the part of the bare loop's")
    for column in ("", "ours", "bare loop", "ratio", "from - to"):
        table.add_column(column, justify="right" if column else "left")
    for name, (images, ours, bare) in times.items():
        ratio = bare / ours
        rates = (f"{images / seconds.median:,.0f}" for seconds in (ours, bare))
        table.add_row(name, *rates, f"{ratio.median:.2f}", f"{ratio.low:.2f} - {ratio.high:.2f}")
    Console(width=100).print(table)


def _plot(path: Path, times: dict[str, Times]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.7 * len(times) + 1.2), layout="constrained")
    for k, label in enumerate(("ours", "bare loop")):
        seconds = [(images, pair[k]) for images, *pair in times.values()]
        rates = [n / s.median for n, s in seconds]
        errors = [
            [r - n / s.high for r, (n, s) in zip(rates, seconds, strict=True)],
            [n / s.low - r for r, (n, s) in zip(rates, seconds, strict=True)],
        ]
        places = [i + 0.4 * k for i in range(len(times))]
        axes.barh(places, rates, height=0.4, xerr=errors, label=label)
    axes.set(xscale="log", xlabel="samples per second (median; smallest to largest)")
    axes.set_yticks([i + 0.2 for i in range(len(times))], list(times))
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
