"""The command as a process: help, Ctrl-C, other ways to call it."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from itm_lightning.cli import COMMANDS, main
from itm_lightning.cli.command import ITMCLI
from itm_lightning.cli.console import OTHER_COMMANDS
from tests.conftest import REPO

pytestmark = pytest.mark.timeout(120)


def test_help_lists_every_command(capsys):
    main(["--help"])
    printed = capsys.readouterr().out
    for command in (*ITMCLI.subcommands(), *OTHER_COMMANDS):
        assert COMMANDS[command] in printed
    assert len(COMMANDS) == len(ITMCLI.subcommands()) + len(OTHER_COMMANDS)


@pytest.mark.parametrize("flag", ["--help", "-h", "--version"])
def test_what_needs_no_torch_is_answered_without(python, flag):
    script = f"""
import sys
from itm_lightning.cli import main
main(["{flag}"])
assert not {{"torch", "pytorch_lightning", "jsonargparse"}} & sys.modules.keys()
"""
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "lightning" in done.stdout


@pytest.mark.parametrize("command", ["lightning", "itm-lightning"])
def test_both_scripts_are_the_command(command):
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name=command)
    assert script.value == "itm_lightning.cli:main"


def interrupted(process):
    """Presses Ctrl-C until the process ends; returns what it printed.

    Once may not be enough: Python drops an exception that a signal raises within a finaliser.
    """
    for _ in range(8):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.communicate()[0]


def test_ctrl_c_leaves_a_checkpoint_that_goes_on(run, tiny_config, tmp_path):
    tiny_config["trainer"]["max_epochs"] = 1000
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_config))
    command = [sys.executable, "-m", "itm_lightning", "fit", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.time() + 90
    while not list(tmp_path.glob("runs/*/checkpoints/last.ckpt")) and time.time() < deadline:
        time.sleep(0.1)
    output = interrupted(process)
    assert process.returncode != 0
    assert b"saved" in output, output.decode()
    (last,) = tmp_path.glob("runs/*/checkpoints/last.ckpt")
    stopped = torch.load(last, weights_only=True)["global_step"]
    assert stopped > 0

    epochs = stopped // 5 + 3
    flags = "--ckpt_path", "last", f"--trainer.max_epochs={epochs}"
    resumed = run("fit", "--config", tiny_config, *flags)
    newest = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert newest["global_step"] == 5 * epochs
    assert (resumed / "test_results.json").is_file()  # it went on to its very end
