"""Every kind of file that is read, with every content that might run something: none does."""

import io
import json
import os
import pickle
import shutil
import signal
import tarfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from itm_lightning import Matcher
from itm_lightning.cli.checkpoint_config import EnsembleFlags, start_from
from itm_lightning.cli.loggers import MetricsCSV
from itm_lightning.compare.runs import read_outcome
from itm_lightning.data import CocoCaptions, Folder, HuggingFace, Karpathy, Paired, Precomputed
from itm_lightning.encoders import PretrainedText, PretrainedVision
from itm_lightning.encoders.pretrained import read_state_dict
from itm_lightning.encoders.word_vectors import read_vectors
from itm_lightning.errors import InputError
from itm_lightning.training.published_checkpoints import load_published
from itm_lightning.utils.images import as_image
from itm_lightning.utils.text_files import read_yaml
from tests.attacks.conftest import CANARY
from tests.encoders.conftest import bert

TOUCH = "open('canary', 'w')"
PART = {"class_path": "canary_module.Head", "init_args": {}}


class Pickled:
    """Writes the canary when it is unpickled."""

    def __reduce__(self):
        return eval, (TOUCH,)


class Program(torch.nn.Module):
    """Writes the canary when TorchScript loads it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight, self.training = state
        torch.save(self.weight, "canary")

    def forward(self, x):
        return x


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return written(lambda file: torch.jit.save(torch.jit.script(Program()), file))


def archive(file):
    data = pickle.dumps(Pickled())
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


EVIL = {"state_dict": Pickled(), "model": [Pickled(), {"x": Pickled()}], "matcher": Pickled()}
OBJECTS = np.array([Pickled()], dtype=object)
CONTENTS = {
    "a pickle": lambda: pickle.dumps(EVIL),
    "torch's": lambda: written(lambda file: torch.save(EVIL, file)),
    "torch's of old": lambda: written(
        lambda file: torch.save(EVIL, file, _use_new_zipfile_serialization=False)
    ),
    "a tar": lambda: written(archive),
    "TorchScript": torchscript,
    "an array of objects": lambda: written(lambda file: np.save(file, OBJECTS)),
    "arrays of objects": lambda: written(
        lambda file: np.savez(file, i2t_ids=OBJECTS, image=OBJECTS)
    ),
    "YAML's tags": lambda: b'a: !!python/object/apply:eval ["' + TOUCH.encode() + b'"]\n',
    "Python": lambda: f"import os\n{TOUCH}\n".encode(),
    "a part": lambda: json.dumps({**PART, "command": "fit", "dataset": PART, "a": PART}).encode(),
    "parts": lambda: json.dumps([PART]).encode(),
    "a shell's": lambda: b"#!/bin/sh\n$(touch canary) `touch canary`\n=cmd|'/C touch canary'!A0\n",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file\n",
    "nothing": lambda: b"",
}


def transformers_folder(change_of):
    """Reads a folder of transformers in which one file is another."""

    def read(path, fitted):
        folder = Path("model")
        for part in bert(transformers):
            part.save_pretrained(folder)
        os.replace(path, folder / change_of)
        if change_of.endswith(".bin"):
            (folder / "model.safetensors").unlink()
        PretrainedText(str(folder))
        PretrainedVision(str(folder))

    return read


def run_with(name):
    """Reads the folder of a run in which one file is another."""

    def read(path, fitted):
        kept = shutil.ignore_patterns("checkpoints", "*.lock")
        shutil.copytree(fitted / "runs" / "r", "r", copy_function=os.link, ignore=kept)
        os.replace(path, Path("r") / name)
        with suppress(InputError):
            MetricsCSV(Path("r")).forget_from(3)
        read_outcome(Path("r"), "test").source()

    return read


def features_with(name):
    """Reads a folder of features in which one file is another."""

    def read(path, fitted):
        shutil.copytree(fitted, "f", copy_function=os.link, ignore=shutil.ignore_patterns("runs"))
        os.replace(path, Path("f") / name)
        source = Precomputed("f")
        source.verify(source.records("train")[0])

    return read


def starts(path, fitted):
    start_from(Matcher.load_from_checkpoint(fitted / "runs/r/checkpoints/last.ckpt"), str(path))


def converts(path, fitted):
    matcher = Matcher.load_from_checkpoint(fitted / "runs/r/checkpoints/last.ckpt")
    load_published(matcher, path, path)


def vocabulary(path, fitted):
    matcher = Matcher.load_from_checkpoint(fitted / "runs/r/checkpoints/last.ckpt")
    torch.save({"model": [{}, {}]}, "good.pth")
    load_published(matcher, Path("good.pth"), path)


def table(name):
    def read(path, fitted):
        (path.parent / "t").mkdir()
        os.replace(path, path.parent / "t" / name)
        Folder(str(path.parent / "t")).records("train")

    return read


def named(path, ending):
    os.replace(path, path.with_suffix(ending))
    return str(path.with_suffix(ending))


#: How each kind of file is read.
FILES = {
    "checkpoint": lambda path, _: Matcher.load_from_checkpoint(path),
    "of an ensemble": lambda path, _: EnsembleFlags([str(path)]),
    "to start from": starts,
    "published checkpoint": converts,
    "its vocabulary": vocabulary,
    "weights": lambda path, _: read_state_dict(str(path)),
    "word vectors": lambda path, _: read_vectors(str(path), {"a"}, 2),
    "config": lambda path, _: read_yaml(path),
    **{f"a run's {name}": run_with(name) for name in ("run.json", "config.yaml", "metrics.csv")},
    **{f"a run's test_{name}": run_with(f"test_{name}") for name in ("results.json", "ranks.npz")},
    "a run's timing.json": run_with("timing.json"),
    "manifest": features_with("manifest.json"),
    "regions": features_with("train_ims.npy"),
    "captions": features_with("train_caps.txt"),
    "ids": features_with("train_ids.txt"),
    "photo": lambda path, _: as_image(path),
    "Karpathy": lambda path, _: Karpathy(".", path.name).records("train"),
    "COCO": lambda path, _: CocoCaptions(".", path.name).records("train"),
    **{f"metadata{end}": table(f"metadata{end}") for end in (".csv", ".jsonl", ".parquet")},
    **{
        f"vectors {end}": lambda path, _, end=end: Paired(named(path, end)).records("train")
        for end in (".npz", ".mat")
    },
}
SLOW = {
    **{
        f"a dataset's {end}": lambda path, _, end=end: HuggingFace(named(path, end)).records(
            "train"
        )
        for end in (".csv", ".json", ".jsonl", ".parquet", ".arrow", ".txt")
    },
    **{
        f"transformers' {name}": transformers_folder(name)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "pytorch_model.bin")
    },
    "transformers' image processor": transformers_folder("preprocessor_config.json"),
}


@pytest.fixture(scope="module")
def contents():
    return {name: make() for name, make in CONTENTS.items()}


def attack(read, path, fitted):
    """Reads a file, within 20 s; it may be refused in one line."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(20)
    try:
        with suppress(InputError):
            read(path, fitted)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack_with_all(kind, contents, fitted, tmp_path, monkeypatch):
    for number, (name, content) in enumerate(contents.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "canary_module.py").write_text(CANARY)
        (folder / "file").write_bytes(content)
        attack({**FILES, **SLOW}[kind], folder / "file", fitted)
        assert not (folder / "canary").exists(), name


@pytest.mark.parametrize("kind", FILES)
def test_no_file_runs_what_it_holds(kind, contents, fitted, tmp_path, monkeypatch):
    attack_with_all(kind, contents, fitted, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW)
def test_no_file_of_other_libraries_runs_what_it_holds(
    kind, contents, fitted, tmp_path, monkeypatch
):
    attack_with_all(kind, contents, fitted, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", sorted(FILES.keys() - {"config"}))  # the user's own may be a pipe
def test_a_pipe_is_not_opened(kind, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("file")
    attack(FILES[kind], tmp_path / "file", fitted)
