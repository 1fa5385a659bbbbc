"""The scripts of experiments/slurm: what they start is a command line that lightning takes."""

import os
import re
import shlex
import subprocess

import pytest
import yaml

from itm_lightning.cli import main
from tests.conftest import REPO

SLURM = REPO / "experiments" / "slurm"
SCRIPTS = sorted(SLURM.glob("*.sbatch"))
JOB = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8"}
CONFIG = f"--config={REPO}/experiments/flickr8k/thesis.yaml"


def started(script, program, folder, *args):
    """The arguments with which the script starts the program, a stand-in on PATH."""
    stand_in = folder / program
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n')
    stand_in.chmod(0o755)
    environment = {**os.environ, **JOB, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", str(script), *args], env=environment, check=True)
    return (folder / "arguments").read_text().splitlines()


def settings(arguments, capsys):
    """What ``srun … lightning fit …`` means."""
    arguments = arguments[arguments.index("lightning") + 1 :]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--print_config"])
    assert ended.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_is_a_script_that_slurm_can_requeue(script):
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    for option in ("--requeue", "--signal=USR1@", "--open-mode=append", "--ntasks-per-node="):
        assert f"#SBATCH {option}" in text


@pytest.mark.parametrize("name", ["single_node", "multi_node"])
def test_it_starts_a_fit_on_all_processes(name, tmp_path, capsys):
    arguments = started(SLURM / f"{name}.sbatch", "srun", tmp_path, CONFIG, "--run_name=mine")
    assert "--kill-on-bad-exit=1" in arguments
    config = settings(arguments, capsys)
    assert config["trainer"]["devices"] == "4"
    assert config["trainer"]["num_nodes"] == 2
    assert config["run_name"] == "mine"
    assert config["model"]["similarity"]["class_path"].endswith("Cosine")


def torchruns(arguments):
    """What torchrun makes of its arguments: the module, and what it hands on."""
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(arguments)
    assert parsed.module
    return parsed.training_script, parsed.training_script_args


def test_torchrun_starts_a_fit_as_the_readme_says(capsys, monkeypatch):
    text = (SLURM / "README.md").read_text()
    (command,) = re.findall(r"```bash\n(torchrun .*?)```", text, re.DOTALL)
    monkeypatch.chdir(REPO)
    for text, meant in {"\\\n": "", "$NODE": "1", "$FIRST": "10.0.0.1"}.items():
        command = command.replace(text, meant)
    program, *arguments = shlex.split(command)
    module, handed_on = torchruns(arguments)
    assert (program, module) == ("torchrun", "itm_lightning")
    config = settings(["lightning", *handed_on], capsys)
    assert (config["trainer"]["num_nodes"], config["trainer"]["devices"]) == (2, "4")
    assert config["run_name"] == "thesis"


@pytest.mark.parametrize("command", ["fit", "test", "predict"])
def test_torchrun_takes_none_of_our_flags_for_its_own(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    flags = sorted(set(re.findall(r"--[a-z_]+(?:\.[a-z_]+)*", capsys.readouterr().out)))
    assert {"--config", "--run_name", "--ckpt_path", "--trainer.devices"} <= set(flags)
    ours = [word for flag in flags for word in (flag, "value")]
    assert torchruns(["-m", "itm_lightning", command, *ours])[1] == [command, *ours]


def test_a_sweep_s_agent_starts_fits_on_all_processes(tmp_path, capsys, monkeypatch):
    from wandb.sdk.launch.sweeps import utils

    agent = started(SLURM / "sweep.sbatch", "wandb", tmp_path, "us/itm/sw33p")
    assert shlex.join(agent) == "agent --forward-signals us/itm/sw33p"

    for key, value in JOB.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(REPO)
    sweep = yaml.safe_load((SLURM / "sweep.yaml").read_text())
    assert sweep["metric"] == {"name": "best/rsum", "goal": "maximize"}
    for similarity in sweep["parameters"]["model.similarity"]["values"]:
        chosen = {"model.similarity": {"value": similarity}, "seed_everything": {"value": 2}}
        said = utils.create_sweep_command_args({"args": chosen}) | {"program": [sweep["program"]]}
        arguments = [
            word
            for part in utils.create_sweep_command(list(sweep["command"]))
            for word in (said[part[2:-1]] if part.startswith("${") else [part])
        ]
        assert arguments[0] == "srun"
        config = settings(arguments, capsys)
        assert config["model"]["similarity"]["class_path"].endswith(f".{similarity}")
        assert config["seed_everything"] == 2
        assert config["trainer"]["logger"]["class_path"].endswith("WandbLogger")
        assert config["trainer"]["devices"] == "4"
