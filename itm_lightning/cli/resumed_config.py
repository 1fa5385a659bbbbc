"""Which settings a run that is started again may change."""

from __future__ import annotations

from typing import Any

from itm_lightning.errors import InputError
from itm_lightning.resume.run import Run, flat

_OF_A_START = {"ckpt_path"}  # from where the run was first started
# A stopped run keeps these; the trainer may have other epochs and machines.
_OF_A_RUN = {"seed_everything", "model", "data", "protocol"}
_OF_A_MACHINE = {"data.num_workers"}


def check_resumed_config(run: Run, config: dict[str, Any]) -> None:
    """Checks that a run that was started before is started again as the same run.

    Args:
        run: its folder may hold an earlier start.
        config: of this start.

    Raises:
        InputError: the folder holds a run of another command, a finished run with another
            config, or a stopped one with another model, data, protocol or seed.
    """
    state = run.state
    if not state:
        return
    if state["command"] != run.command:
        raise InputError(
            f"run folder {run.folder} holds a {state['command']}: give this {run.command} another "
            f"name with --run_name"
        )
    if state["finished"]:
        _refuse_change(run, config, "has finished", set(config) - _OF_A_START)
    elif run.last is not None:
        _refuse_change(run, config, "was stopped", _OF_A_RUN)


def _refuse_change(run: Run, config: dict[str, Any], how: str, sections: set[str]) -> None:
    earlier = run.config
    old = flat({name: earlier.get(name) for name in sections})
    new = flat({name: config.get(name) for name in sections})
    if config.get("seed_everything") is True:  # True allows any seed
        new["seed_everything"] = old["seed_everything"]
    keys = sorted((old.keys() | new.keys()) - _OF_A_MACHINE)
    changed = [key for key in keys if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        raise InputError(
            f"run folder {run.folder} holds a run that {how}, with {key} {old.get(key)!r} instead "
            f"of {new.get(key)!r}: give this one another name with --run_name"
        )
