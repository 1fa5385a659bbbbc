"""Which settings a run that is started again may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itm_lightning.cli.checkpoint_config import GivenCheckpoint
from itm_lightning.errors import InputError
from itm_lightning.resume.run import Run, flat

_OF_A_START = {"ckpt_path"}  # from where the run was first started
# A stopped run keeps these; the trainer may have other epochs and machines.
_OF_A_RUN = {"seed_everything", "model", "data", "protocol"}
_OF_A_MACHINE = {"data.num_workers"}
_NAMED = _OF_A_RUN | {"trainer"}
# A checkpoint brings these, or the state that they would only start.
_RESTORED = "seed_everything", "model.optimizer", "model.scheduler", "model.lr_factors"
# Within an epoch it also brings how many batches have been read.
_OF_AN_EPOCH = "data.source", "data.batch_size", "data.one_text", "data.bucketed"
_WHERE = (  # a run writes and shows what it does, which changes nothing of it
    *("trainer.default_root_dir", "trainer.logger", "trainer.enable_", "trainer.callbacks"),
)


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
    if state.get("command", run.command) != run.command:
        raise InputError(
            f"run folder {run.folder} holds a {state['command']}: give this {run.command} another "
            f"name with --run_name"
        )
    if state.get("finished"):
        _refuse_change(run, config, "has finished", set(config) - _OF_A_START)
    elif run.last is not None and run.config:
        _refuse_change(run, config, "was stopped", _OF_A_RUN)


def changes_since(checkpoint: GivenCheckpoint, config: dict[str, Any]) -> list[str]:
    """What a fit that goes on from a checkpoint does otherwise than before, to be printed.

    Raises:
        InputError: a setting would be ignored, as the checkpoint brings its value or its state.
    """
    changed = _changed(checkpoint.config, config, _NAMED & set(checkpoint.config))
    within = _OF_AN_EPOCH if checkpoint.is_within_epoch else ()
    for key, (old, new) in changed.items():
        if key.startswith((*_RESTORED, *within)):
            raise InputError(
                f"{key} is {new!r}, but --ckpt_path goes on with what it was, {old!r}: leave it "
                "out, or start anew from the checkpoint's weights with --start_from"
            )
    return [
        f"{key} {new!r} instead of {old!r}"
        for key, (old, new) in changed.items()
        if not key.startswith(_WHERE)
    ]


def _changed(
    earlier: Mapping[str, Any], config: Mapping[str, Any], sections: set[str]
) -> dict[str, tuple[Any, Any]]:
    """The values before and now of each key that differs."""
    old = flat({name: earlier.get(name) for name in sections})
    new = flat({name: config.get(name) for name in sections})
    if config.get("seed_everything") is True:  # True allows any seed
        new["seed_everything"] = old.get("seed_everything")
    keys = sorted((old.keys() | new.keys()) - _OF_A_MACHINE)
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _refuse_change(run: Run, config: dict[str, Any], how: str, sections: set[str]) -> None:
    for key, (old, new) in _changed(run.config, config, sections).items():
        raise InputError(
            f"run folder {run.folder} holds a run that {how}, with {key} {old!r} instead of "
            f"{new!r}: give this one another name with --run_name"
        )
