"""Whether a run that is started again is still the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from itm_lightning.cli.runs import Run
from itm_lightning.errors import InputError

_OF_A_START = {"ckpt_path"}  # where the run once started
# What a stopped run may not change; the trainer may go on with other epochs, on other machines.
_OF_A_RUN = {"seed_everything", "model", "data", "protocol"}
_OF_A_MACHINE = {"data.num_workers"}


def has_finished(run: Run, config: dict[str, Any]) -> bool:
    """Whether nothing is left to do for a run with this config.

    Args:
        run: which may have been started before.
        config: of this start.

    Raises:
        InputError: the folder holds a run of another command, a finished run with another
            config, or a stopped one with another model, data, protocol or seed.
    """
    state = run.state
    if not state:
        return False
    if state["command"] != run.command:
        raise InputError(
            f"run folder {run.folder} holds a {state['command']}: give this {run.command} another "
            f"name with --run_name"
        )
    before = _config(run.folder)
    if state["finished"]:
        _refuse_change(run, before, config, "has finished", set(config) - _OF_A_START)
        return True
    if run.last is not None:
        _refuse_change(run, before, config, "was stopped", _OF_A_RUN)
    return False


def _refuse_change(
    run: Run, before: dict[str, Any], now: dict[str, Any], how: str, sections: set[str]
) -> None:
    old = flat({name: before.get(name) for name in sections})
    new = flat({name: now.get(name) for name in sections})
    if now.get("seed_everything") is True:  # any will do
        new["seed_everything"] = old["seed_everything"]
    keys = sorted((old.keys() | new.keys()) - _OF_A_MACHINE)
    changed = [key for key in keys if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        raise InputError(
            f"run folder {run.folder} holds a run that {how}, with {key} {old.get(key)!r} instead "
            f"of {new.get(key)!r}: give this one another name with --run_name"
        )


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    return dict(yaml.safe_load(path.read_text())) if path.is_file() else {}
