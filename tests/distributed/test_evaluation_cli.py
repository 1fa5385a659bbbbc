"""``lightning test`` and ``predict`` on several processes: what one gives, to the last digit."""

import copy
import functools
import json
import os
import subprocess
import sys

import pytest
import yaml

from itm_lightning.cli import main
from itm_lightning.data import Scenes
from tests.conftest import REPO, TINY_MODEL, TINY_TRAINER
from tests.distributed.processes import in_processes

pytestmark = pytest.mark.timeout(300)

# 70 photos make three units of the scoring grid: of four processes one has none, and of no number
# of processes but two does each see as many photos as the others
IMAGES = 70
SCENES = {"train": 8, "val": 4, "test": IMAGES, "pairs": 0.5}
CONFIG = {
    "seed_everything": 0,
    "trainer": TINY_TRAINER,
    "model": TINY_MODEL,
    "data": {"source": {"class_path": "Scenes", "init_args": SCENES}, "batch_size": 8},
    "hub_correction": {"class_path": "NNN", "init_args": {"k": 7}},
}
CORRECTED = ["--hub_correction=NNN", "--hub_correction.k=7"]
PROCESSES = ["--trainer.accelerator=cpu", "--trainer.strategy=ddp"]


def start(folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    with (folder / f"output{len(list(folder.glob('output*')))}").open("w") as output:
        return subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=output, stderr=output
        )


def finish(folder, *processes):
    codes = [process.wait() for process in processes]
    printed = "\n".join(path.read_text() for path in sorted(folder.glob("output*")))
    assert codes == [0] * len(codes), printed
    return printed


def one_to_five_texts(folder):
    """The same photos as files, with captions in number as their place says."""
    source, lines = Scenes(**SCENES), []
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for number, record in enumerate(source.records(split)):
            name = f"{split}/{number:02}.png"
            source.image(record).save(folder / name)
            texts = record.texts[: 1 + number % 5]
            lines.append(json.dumps({"file_name": name, "caption": texts, "split": split}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return {"class_path": "Folder", "init_args": {"root": str(folder)}}


def scores_tie(folder):
    """Whole numbers from -16 to 0, of captions in varying number."""
    config = copy.deepcopy(CONFIG)
    config["model"]["similarity"] = {"class_path": "Hamming"}
    config["data"]["source"] = one_to_five_texts(folder / "photos")
    return config


def tokens(folder):
    config = copy.deepcopy(CONFIG)
    config["model"]["similarity"] = {"class_path": "CrossAttention"}
    return config


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """By what is hard to score as one: a fitted Matcher's checkpoint, and its test scores."""

    @functools.cache
    def _fitted(config_of):
        folder = tmp_path_factory.mktemp(config_of.__name__)
        (folder / "config.yaml").write_text(yaml.safe_dump(config_of(folder)))
        root = f"--trainer.default_root_dir={folder / 'runs'}"
        main(["fit", "--config", str(folder / "config.yaml"), root])
        (run,) = folder.glob("runs/*-fit")
        return str(run / "checkpoints" / "best.ckpt"), run / "metrics.json"

    return _fitted


def scores(path):
    metrics = json.loads(path.read_text())
    return {key: value for key, value in metrics.items() if key.startswith("test/")}


def lines_of(path):
    """Of every line of a file of predictions, what was asked, and the answers' scores."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["query"], [answer["score"] for answer in line["results"]]) for line in lines]


def of_one_run(folder, pattern):
    found = list(folder.glob(f"runs/*/{pattern}"))
    assert len(found) == 1, [path.name for path in folder.glob("runs/*/*")]
    return found[0]


@pytest.mark.parametrize("hard", [tokens, pytest.param(scores_tie, marks=pytest.mark.slow)])
@pytest.mark.parametrize("devices", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_processes_score_as_one(fitted, tmp_path, free_port, devices, hard):
    checkpoint, metrics = fitted(hard)
    flags = [*PROCESSES, *CORRECTED, f"--trainer.devices={devices}"]
    in_processes(["test", "--ckpt_path", checkpoint, *flags], tmp_path, devices, free_port())
    printed = "".join(path.read_text() for path in tmp_path.glob("output*"))
    expected = scores(metrics)
    assert scores(of_one_run(tmp_path, "metrics.json")) == expected
    assert {"test/rsum", "test/i2t_medr", "test/NNN_rsum"} <= expected.keys()
    assert ("test/pairs_accuracy" in expected) == (hard is tokens)
    assert printed.count("protocol Retrieval") == 2  # plain, and hubs corrected


@pytest.mark.slow
@pytest.mark.parametrize("own", [(), ("--predict.texts", "two things", "a red ring", "a star")])
def test_processes_retrieve_as_one(fitted, tmp_path, own):
    checkpoint, _ = fitted(tokens)
    command = "-m", "itm_lightning", "predict", "--ckpt_path", checkpoint, *own
    found = {}
    for flags in ((), (*PROCESSES, "--trainer.devices=3")):
        folder = tmp_path / str(len(flags))
        folder.mkdir()
        finish(folder, start(folder, *command, *flags))
        found[flags] = lines_of(of_one_run(folder, "*.jsonl"))
    expected, lines = found.values()
    assert [query for query, _ in lines] == [query for query, _ in expected]
    for (_, found), (_, wanted) in zip(lines, expected, strict=True):
        # encoders saw other batches: the last digits of features may differ
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_two_nodes_of_two_score_as_one(fitted, tmp_path, free_port):
    checkpoint, metrics = fitted(tokens)
    flags = [*PROCESSES, *CORRECTED, "--trainer.devices=2", "--trainer.num_nodes=2"]
    command = "-m", "itm_lightning", "test", "--ckpt_path", checkpoint, *flags
    torchrun = "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=2"
    where = "--master_addr=127.0.0.1", f"--master_port={free_port()}"
    nodes = [
        start(tmp_path, *torchrun, f"--node_rank={node}", *where, *command) for node in range(2)
    ]
    finish(tmp_path, *nodes)
    assert scores(of_one_run(tmp_path, "metrics.json")) == scores(metrics)
