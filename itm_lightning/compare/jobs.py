"""Training what a comparison needs, in processes of their own, and printing it for a cluster."""

from __future__ import annotations

import fcntl
import json
import shlex
import subprocess
from collections.abc import Sequence
from math import isinf
from pathlib import Path
from textwrap import indent
from typing import Any

from itm_lightning.compare.plan import Head, Job, Plan
from itm_lightning.compare.runs import Variant, read_outcome, split_of
from itm_lightning.errors import InputError, one_line
from itm_lightning.utils.progress_bars import progress_bar

_SLURM = """#!/bin/bash
# Submit with sbatch; afterwards the same `lightning compare` only compares.
#SBATCH --job-name=itm-compare
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@300
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.out
set -euo pipefail
{before}
case "$SLURM_ARRAY_TASK_ID" in
{cases}
esac
# exec: signals that reach this script reach the training
exec srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" lightning "${{arguments[@]}}"
"""
# W&B's agent appends --seed=… and --similarity=… to the command.
_SWEEP = """# wandb sweep, then wandb agent; afterwards the same `lightning compare` only compares.
program: lightning
method: grid
metric: {{name: best/rsum, goal: maximize}}
parameters:
  similarity: {{values: {heads}}}
  seed: {{values: {seeds}}}
command:
  - bash
  - -c
  - |
    for argument in "$0" "$@"; do declare "${{argument#--}}"; done
    case "$similarity-$seed" in
{cases}
    esac
    exec lightning "${{arguments[@]}}"
  - ${{args}}
"""


def printed(plan: Plan, how: str) -> str:
    """All jobs, to be run elsewhere, in the folders in which :func:`train` would run them.

    Args:
        plan: what is to be trained.
        how: ``"commands"``, a line each; ``"slurm"``, an array script; ``"sweep"``, the YAML of a
            W&B sweep.

    Raises:
        InputError: settings are to be searched first.
    """
    jobs = list(plan.jobs())
    extraction = [shlex.join(["lightning", *plan.extraction.arguments])] if plan.extracts else []
    if how == "commands":
        return "\n".join([*extraction, *(shlex.join(["lightning", *j.arguments]) for j in jobs)])
    before = [f"# first, once: {command}" for command in extraction]
    if how == "slurm":
        cases = _cases([str(i) for i in range(len(jobs))], jobs)
        return _SLURM.format(last=len(jobs) - 1, before="\n".join(before), cases=cases).rstrip()
    heads = [head.name for head in plan.heads]
    cases = indent(_cases([job.folder.name for job in jobs], jobs), "    ")
    sweep = _SWEEP.format(heads=json.dumps(heads), seeds=list(plan.seeds), cases=cases)
    return "\n".join([*before, sweep.rstrip()])


def _cases(names: Sequence[str], jobs: Sequence[Job]) -> str:
    arguments = [shlex.join(job.arguments) for job in jobs]
    lines = zip(names, arguments, strict=True)
    return "\n".join(f"  {name}) arguments=({line}) ;;" for name, line in lines)


def train(plan: Plan, split: str | None) -> tuple[tuple[Variant, ...], list[str]]:
    """Runs what is not finished, one job after another.

    Runs that have finished are not repeated, and one that was stopped goes on. The output of a job
    goes to ``<its folder>.log``. Where a head's settings are searched, its trials run with the
    first seed, and the one with the best rsum on val is trained with the others, too.

    Args:
        plan: what to train.
        split: to compare; by default test where there is one.

    Returns:
        The heads as variants, with the reason where all runs of one failed; and notes.

    Raises:
        InputError: the images could not be encoded.
    """
    (plan.output / "runs").mkdir(parents=True, exist_ok=True)
    if plan.extracts and (reason := _run(plan.extraction, print)):
        raise InputError(f"lightning extract failed: {reason} (see {plan.extraction.log})")
    first, others = plan.seeds[0], plan.seeds[1:]
    searched = {
        head: [plan.job(head, first, i) for i in range(len(head.trials))] for head in plan.heads
    }
    total = sum(len(jobs) for jobs in searched.values()) + len(others) * len(plan.heads)
    errors: dict[Path, str] = {}
    with progress_bar(total=total, unit="run") as bar:

        def run(job: Job) -> None:
            bar.set_description(job.folder.name)
            if reason := _run(job, bar.write):
                errors[job.folder] = reason
                bar.write(f"{job.folder.name} failed: {reason}")
            bar.update()

        for jobs in searched.values():
            for job in jobs:
                run(job)
        best = {head: _best(jobs) for head, jobs in searched.items()}
        chosen = {head: [jobs[best[head]]] for head, jobs in searched.items()}
        for seed in others:
            for head, jobs in chosen.items():
                jobs.append(plan.job(head, seed, best[head]))
                run(jobs[-1])
    notes = [note for head in plan.heads for note in _notes(head, searched[head], best[head])]
    notes += [
        f"A trial failed, {job.folder.name}: {errors[job.folder]}."
        for head, jobs in searched.items()
        for job in jobs
        if job.folder in errors and job not in chosen[head]
    ]
    every = [job.folder for jobs in chosen.values() for job in jobs]
    split = split or split_of([folder for folder in every if folder not in errors])
    variants = []
    for head, jobs in chosen.items():
        outcomes = []
        for job in jobs:
            try:
                if job.folder not in errors:
                    outcomes.append(read_outcome(job.folder, split))
            except InputError as unscored:
                errors[job.folder] = one_line(unscored)
        failed = [f"{j.folder.name}: {errors[j.folder]}" for j in jobs if j.folder in errors]
        error = None if outcomes else failed[0].partition(": ")[2]
        variants.append(Variant(head.label, tuple(outcomes), error))
        if outcomes:
            notes += [f"A run failed and is left out, {reason}." for reason in failed]
    return tuple(variants), notes


def _best(jobs: Sequence[Job]) -> int:
    """Which trial has the best rsum on val; the first where none was finished."""
    rsums = [_rsum(job) for job in jobs]
    return rsums.index(max(rsums))


def _rsum(job: Job) -> float:
    path = job.folder / "metrics.json"
    if not job.is_finished or not path.is_file():
        return float("-inf")
    return float(json.loads(path.read_text()).get("val/rsum", float("-inf")))


def _notes(head: Head, jobs: Sequence[Job], best: int) -> list[str]:
    """What was set for a head alone."""
    pairs = zip(head.trials[best][::2], head.trials[best][1::2], strict=True)
    settings = ", ".join(f"{flag.removeprefix('--')} {value}" for flag, value in pairs)
    if len(jobs) == 1:
        return [f"{head.label} has settings of its own: {settings}."] if settings else []
    found = [_rsum(job) for job in jobs]
    rsums = ", ".join("failed" if isinf(rsum) else f"{rsum:.1f}" for rsum in found)
    return [
        f"{head.label}: the best of {len(jobs)} trials on val, by rsum ({rsums}), is number "
        f"{best + 1}: {settings or 'the base config'}."
    ]


def _run(job: Job, tell: Any) -> str | None:
    """Runs a job unless it has finished; returns why it failed."""
    if job.is_finished:
        return None
    with job.log.open("a") as log:
        # The job inherits the lock: it is held until all of its processes have ended, also where
        # the comparison that started them was killed.
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{job.folder.name} is being trained already: waiting for it")
            fcntl.flock(log, fcntl.LOCK_EX)
        if job.is_finished:
            return None
        start = job.log.stat().st_size
        process = subprocess.Popen(job.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()  # a fit stops at its next step, to be resumed there
            process.wait()
            raise
    return None if status == 0 else _reason(job.log, start, status)


def _reason(log: Path, start: int, status: int) -> str:
    """The job's own message, or its last line."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else f"status {status}, {lines[-1] if lines else 'without a word'}"
