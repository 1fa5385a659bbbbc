"""``lightning compare``: the real command line, on tiny fits."""

import contextlib
import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from itm_lightning.cli import compare as cli_compare
from itm_lightning.cli import main
from itm_lightning.compare import jobs
from itm_lightning.compare.plan import Plan, can_store, heads_of
from itm_lightning.errors import InputError
from tests.cli.conftest import in_file
from tests.conftest import REPO

BROKEN = """
from itm_lightning.errors import InputError
from itm_lightning.similarity import Cosine

class Broken(Cosine):
    def score(self, images, texts):
        raise InputError("this head is broken")
"""
I2T = "{class_path: CrossAttention, init_args: {direction: i2t}}"
SCORES = [f"{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)] + ["rsum"]


class InProcess:
    """Stands in for subprocess.Popen: jobs run in this process, which has torch already."""

    started: ClassVar = []
    stop_at: ClassVar = None

    def __init__(self, command, stdout, stderr, stdin):
        self.command, self.log, self.terminated = command, stdout, False
        named = "--run_name" if "--run_name" in command else "--output"
        self.started.append(command[command.index(named) + 1])

    def wait(self):
        if self.terminated:
            return 143
        if self.started[-1] == self.stop_at:
            raise KeyboardInterrupt
        printed = io.StringIO()
        status = 0
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                main(self.command[self.command.index("itm_lightning") + 1 :])
            except SystemExit as ended:
                status = ended.code or 0
        self.log.write(printed.getvalue())
        return status

    def terminate(self):
        self.terminated = True
        InProcess.stop_at = None


@pytest.fixture
def started(monkeypatch):
    """The names of the runs that were started, in this process."""
    monkeypatch.setattr(jobs.subprocess, "Popen", InProcess)
    monkeypatch.setattr(InProcess, "started", [])
    monkeypatch.setattr(InProcess, "stop_at", None)
    return InProcess.started


@pytest.fixture
def compare(tmp_path, monkeypatch, tiny_config):
    """Runs ``lightning compare`` in a folder of its own; returns the table's rows by label."""
    monkeypatch.chdir(tmp_path)
    config = in_file(tiny_config, tmp_path)

    def _compare(similarities, *args, output="out"):
        planned = ["--config", config, "--similarities", similarities]
        main(["compare", *planned, "--output", output, *map(str, args)])
        with (tmp_path / output / "comparison.csv").open(newline="") as lines:
            return {row["label"]: row for row in csv.DictReader(lines)}

    return _compare


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take longer than a tiny fit."""
    for name in ("write_report", "save_pictures"):
        monkeypatch.setattr(cli_compare, name, lambda *_: None)


@pytest.fixture
def refused(compare, capsys, started, tmp_path):
    """The one line with which ``compare`` refuses; nothing was started."""

    def _refused(*args):
        with pytest.raises(SystemExit) as stopped:
            compare(*args)
        assert stopped.value.code == 2
        assert not started
        assert not (tmp_path / "out").exists()
        errors = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]

    return _refused


def scores(rows):
    return {label: [row[score] for score in SCORES] for label, row in rows.items()}


def test_a_comparison_that_was_stopped_goes_on_to_the_same_table(
    compare, started, undrawn, tmp_path, monkeypatch
):
    (tmp_path / "mine.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    others = "--seeds", "[1]", "--data.source.train", "16"
    InProcess.stop_at = "Bilinear-1"
    with pytest.raises(SystemExit) as stopped:
        compare("[Cosine, mine.Broken, Bilinear]", *others)
    assert stopped.value.code == 130
    assert started == ["Cosine-1", "mine.Broken-1", "Bilinear-1"]

    del started[:]
    rows = compare("[Cosine, mine.Broken, Bilinear]", *others)
    assert started == ["mine.Broken-1", "Bilinear-1"]  # a failed run is tried again
    assert rows["Broken"]["error"] == "this head is broken"
    config = yaml.safe_load((tmp_path / "out/runs/Bilinear-1/config.yaml").read_text())
    assert config["data"]["source"]["init_args"]["train"] == 16
    assert config["seed_everything"] == 1
    uninterrupted = compare("[Bilinear]", *others, output="new")
    assert scores(uninterrupted)["Bilinear"] == scores(rows)["Bilinear"]


@pytest.mark.slow
def test_a_run_that_was_never_scored_is_a_row_that_says_so(compare, undrawn, started, tmp_path):
    unscored = in_file({"Bilinear": {"trainer.limit_val_batches": 0}}, tmp_path)
    rows = compare("[Cosine, Bilinear]", "--settings", unscored)
    assert rows["Cosine"]["seeds"] == "1"
    assert rows["Bilinear"]["error"].startswith("out/runs/Bilinear-0/test_results.json is missing")


@pytest.mark.slow
def test_settings_are_searched_on_val_with_the_first_seed(compare, started, undrawn, tmp_path):
    rate = "model.optimizer.init_args.lr"
    optimizer = {"class_path": "torch.optim.AdamW"}
    trials = [{"model": {"optimizer": optimizer}, rate: lr} for lr in (1e-30, 3e-3)]
    settings = in_file({"Cosine": trials}, tmp_path)
    rows = compare("[Cosine]", "--seeds", "[1, 2]", "--settings", settings, "--split", "val")
    assert started[:2] == ["Cosine-trial1-1", "Cosine-trial2-1"]
    rsums = [
        json.loads((tmp_path / f"out/runs/{name}/metrics.json").read_text())["val/rsum"]
        for name in started[:2]
    ]
    best = 1 + rsums.index(max(rsums))
    assert started[2:] == [f"Cosine-trial{best}-2"]
    assert rows["Cosine"]["seeds"] == "2"
    text = (tmp_path / "out/comparison.md").read_text()
    assert f"the best of 2 trials on val, by rsum ({rsums[0]:.1f}, {rsums[1]:.1f})" in text
    config = yaml.safe_load((tmp_path / f"out/runs/{started[2]}/config.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["lr"] == trials[best - 1][rate]


@pytest.mark.parametrize(
    ("similarities", "args", "message"),
    [
        ("[Cosine, Nothing]", [], "there is no similarity 'Nothing'; there are Bilinear, CCA"),
        ("[Cosine, Cosine]", [], "Cosine twice"),
        ("[{class_path: Bilinear, init_args: {size: 2}}]", [], "Bilinear has no 'size'"),
        ("[Cosine]", ["--data.source.trains", "3"], "trains"),
        ("[Cosine]", ["--run_name", "mine"], "compare sets --run_name of every run itself"),
        ("[Cosine]", ["--seeds", "3"], "--seeds is a list of whole numbers"),
        ("[Cosine]", ["--data.source", "{class_path: Karpathy, init_args: {root: no}}"], "no"),
        ("[Cosine]", ["--settings", {"Bilinear": {}}], "for 'Bilinear'; the heads are Cosine"),
        (
            "[Cosine, Bilinear]",
            ["--settings", {"Cosine": [{"model.dim": 8}, {"model.dim": 16}]}],
            "equally many trials; there are Cosine 2, Bilinear 1",
        ),
        ("[Cosine]", ["--runs", "a"], "--runs trains nothing: leave out --config"),
        ("[Cosine", [], "this is no YAML"),
        ("[Cosine]", ["--seeds", "[1"], "this is no YAML"),
        ("[Cosine]", ["--hub_correction", "{name: NNN}"], "is no class name or class_path"),
        ("[Cosine]", ["--hub_correction", "{class_path: NNN, init_args: {q: 3}}"], "NNN: "),
        ("[Cosine]", ["--hub_correction", "{class_path: NNN, init_args: {k: x}}"], "NNN: "),
        ("[Cosine]", ["--explanations", "-1"], "--explanations is -1"),
        ("[Cosine]", ["--split", "test", "--data.source.test", "0"], "Scenes has no test split"),
    ],
)
def test_faults_are_found_before_anything_is_trained(
    refused, tmp_path, similarities, args, message
):
    assert message in refused(similarities, *(in_file(arg, tmp_path) for arg in args))


def test_a_head_s_folder_is_its_own_whatever_it_is_compared_with():
    biased = [{"class_path": "ScaledCosine", "init_args": {"bias": b}} for b in (10, -10)]
    names = [head.name for head in heads_of(["ScaledCosine", *biased], {})]
    assert names == ["ScaledCosine", "ScaledCosine-bias-10", "ScaledCosine-bias--10"]
    assert heads_of(biased[:1], {})[0].name == names[1]
    alike = [{"class_path": "ScaledCosine", "init_args": {"pretrained": p}} for p in ("a b", "a,b")]
    with pytest.raises(InputError, match="two heads whose runs would be named"):
        heads_of(alike, {})


def test_printed_commands_are_the_runs_that_are_compared_afterwards(
    compare, started, tmp_path, capsys
):
    with pytest.raises(FileNotFoundError):  # no table
        compare(f"[CrossAttention, {I2T}]", "--print_jobs")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line in lines:
        main(shlex.split(line)[1:])
    rows = compare(f"[CrossAttention, {I2T}]")
    assert list(rows) == ["CrossAttention", "CrossAttention(direction=i2t)"]
    assert not started
    assert (tmp_path / "out/report.html").read_text().count("CrossAttention(direction=i2t)") > 3

    answers = json.loads((tmp_path / "out/measurements.json").read_text())
    for label in rows:
        for query in answers[label]["measured"]["disagreements"]:
            ranks = query["ranks"]
            rank = ranks[label]
            right = [answer["is_right"] for answer in query["top"]]
            assert any(right[:rank]) == (rank <= 5)  # the ranks of the file, and these scores
            assert not any(right[: rank - 1])
            assert max(ranks.values()) > min(ranks.values())

    main(
        [
            "compare",
            "--runs",
            *(f"out/runs/{name}-0" for name in ("CrossAttention", "CrossAttention-direction-i2t")),
            *("--output", "again", "--wandb", "team/itm"),
        ]
    )
    said = "no report in W&B, which is offline here: the same views are in again/report.html"
    assert said in capsys.readouterr().out
    text = (tmp_path / "again/comparison.md").read_text()
    assert "| CrossAttention(direction=t2i) |" in text


def stand_in(folder, name):
    """A program that prints its arguments, first on PATH."""
    (folder / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_slurm_arrays_and_sweeps_start_the_same_runs(compare, tmp_path, capsys):
    asked = f"[Cosine, {I2T}]", "--seeds", "[1, 2]"
    printed = []
    for how in ("commands", "slurm", "sweep"):
        with pytest.raises(FileNotFoundError):
            compare(*asked, "--print_jobs", how)
        printed.append(capsys.readouterr().out)
    commands = [shlex.split(line)[1:] for line in printed[0].splitlines()]
    environment = stand_in(tmp_path, "srun") | stand_in(tmp_path, "lightning")
    assert "#SBATCH --array=0-3\n" in printed[1]
    (tmp_path / "array.sh").write_text(printed[1])
    sweep = yaml.safe_load(printed[2])
    script, place = sweep["command"][-2:]
    assert place == "${args}"
    heads = sweep["parameters"]["similarity"]["values"]
    pairs = [(head, seed) for seed in sweep["parameters"]["seed"]["values"] for head in heads]
    for i, command in enumerate(commands):
        job = {**environment, "SLURM_ARRAY_TASK_ID": str(i), "SLURM_CPUS_PER_TASK": "8"}
        by_slurm = subprocess.run(["bash", "array.sh"], env=job, capture_output=True, text=True)
        assert by_slurm.stdout.splitlines()[3:] == command
        args = f"--seed={pairs[i][1]}", f"--similarity={pairs[i][0]}"
        agent = ["bash", "-c", script, *args]
        by_sweep = subprocess.run(agent, env=environment, capture_output=True, text=True)
        assert by_sweep.stdout.splitlines() == command


@pytest.mark.slow
def test_a_frozen_encoder_runs_once_for_all_heads(compare, started, undrawn, tmp_path, capsys):
    import torch
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1().state_dict(), tmp_path / "weights.pth")
    weights = "--model.image_encoder.weights", tmp_path / "weights.pth"
    frozen = *weights, "--model.image_encoder.trainable", "false"
    with pytest.raises(FileNotFoundError):
        compare("[Cosine]", *frozen, "--print_jobs")
    extraction, _ = capsys.readouterr().out.splitlines()
    assert extraction.startswith("lightning extract ")
    assert extraction.endswith("--output out/features")
    main(shlex.split(extraction)[1:])
    rows = compare("[Cosine]", *frozen)
    config = yaml.safe_load((tmp_path / "out/runs/Cosine-0/config.yaml").read_text())
    assert config["data"]["source"]["class_path"].endswith("Precomputed")
    assert rows["Cosine"]["pairs_accuracy"]  # minimal pairs are kept with the features
    with pytest.raises(SystemExit):  # not with features of other photos
        compare("[Cosine, Bilinear]", *frozen, "--data.source.seed", "1")
    assert "out/features was begun with another list of photos" in capsys.readouterr().err
    assert started == ["out/features", "Cosine-0", "out/features"]
    with pytest.raises(FileNotFoundError):
        compare(
            "[Cosine]",
            *frozen,
            "--model.image_encoder.augment",
            "true",
            "--print_jobs",
            output="augmented",
        )
    assert capsys.readouterr().out.count("lightning ") == 1


@pytest.mark.slow
def test_a_comparison_that_is_killed_repeats_no_finished_run(tmp_path, tiny_config):
    command = [
        *(sys.executable, "-m", "itm_lightning", "compare", "--output", "out"),
        *("--config", in_file(tiny_config, tmp_path), "--similarities", "[Cosine, Bilinear]"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment)
    log = tmp_path / "out/runs/Bilinear-0.log"
    while not log.exists():
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)  # the second run goes on alone
    first.wait()
    finished = tmp_path / "out/runs/Cosine-0/metrics.json"
    written = finished.stat().st_mtime
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "Bilinear-0 is being trained already: waiting for it" in again.stderr + again.stdout
    assert finished.stat().st_mtime == written
    assert log.read_text().count("run folder:") == 1
    assert "| Bilinear | 1 |" in (tmp_path / "out/comparison.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        ({"trainable": False}, True),
        ({"trainable": True}, False),
        ({"trainable": False, "word_noise": 0.1}, False),  # its tokens change
        ({"trainable": False, "store": "elsewhere"}, False),  # kept there already
    ],
)
def test_a_frozen_text_encoder_keeps_its_tokens_for_all_heads(arguments, stored):
    encoder = {"class_path": "itm_lightning.encoders.PretrainedText", "init_args": arguments}
    stores = can_store({"model": {"text_encoder": encoder}})
    plan = Plan(heads_of(["Cosine"], {}), (1,), (), Path("out"), stores=stores)
    command = shlex.join(plan.job(plan.heads[0], 1).arguments)
    assert ("--model.text_encoder.store out/texts" in command) == stored
