"""Running the real command line."""

import os
import subprocess
import sys

import pytest
import yaml

from itm_lightning.cli import main
from tests.conftest import REPO
from tests.encoders.conftest import bert, vit


def in_file(arg, folder):
    """An argument of the command line; a dictionary becomes a config file in the folder."""
    if not isinstance(arg, dict):
        return str(arg)
    path = folder / f"config-{len(list(folder.glob('config-*')))}.yaml"
    path.write_text(yaml.safe_dump(arg))
    return str(path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs ``lightning`` in this process, in a folder of its own; returns the newest run folder.

    The arguments may hold dictionaries, which become config files.
    """
    monkeypatch.chdir(tmp_path)

    def _run(*args):
        before = set(tmp_path.glob("runs/*"))
        main([in_file(arg, tmp_path) for arg in args])
        return (set(tmp_path.glob("runs/*")) - before).pop()

    return _run


@pytest.fixture
def refuse(run, capsys, tmp_path):
    """Runs ``lightning``, which must end with status 2 and one line; returns that line.

    Nothing was trained by then: at most the config lies in the run folder.
    """

    def _refuse(*args):
        with pytest.raises(SystemExit) as stopped:
            run(*args)
        assert stopped.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1
        assert lines[-1] == errors[0]  # nothing follows it, no traceback
        assert {path.name for path in tmp_path.glob("runs/*/*")} <= {
            "config.yaml",
            "run.json",
            "run.lock",
        }
        return errors[0]

    return _refuse


@pytest.fixture
def lightning(tmp_path, python):
    """Runs ``lightning`` in a process of its own, in ``tmp_path``; a dictionary is a config."""

    def _lightning(*args, by=("-m", "itm_lightning"), **environment):
        args = [in_file(arg, tmp_path) for arg in args]
        environment = {**os.environ, "PYTHONPATH": str(REPO), **environment}
        return python(*by, *args, cwd=tmp_path, env=environment)

    return _lightning


@pytest.fixture
def python():
    """Runs this Python in a process of its own, from the repository unless told otherwise."""

    def _python(*args, cwd=REPO, **kwargs):
        return subprocess.run(
            [sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True, **kwargs
        )

    return _python


@pytest.fixture
def pretrained_folders(tmp_path):
    """A tiny ViT and a tiny BERT with random weights, as ``save_pretrained`` writes them."""
    import transformers

    for name, make in (("vit", vit), ("bert", bert)):
        for part in make(transformers):
            part.save_pretrained(tmp_path / name)
    return tmp_path / "vit", tmp_path / "bert"
