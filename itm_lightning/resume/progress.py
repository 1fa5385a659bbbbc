"""Where in its loops a run is cut, such that Lightning goes on exactly there.

Lightning stores its counters as they are in the midst of a hook, and when it resumes guesses from
them what had been done; it guesses right in some places, and in others skips a validation, a step
of the scheduler, or an epoch. Here the counters are put into one of two forms that leave nothing
to guess: so many batches of an epoch are done, or so many epochs are.

Where gradients lie in what processes sum up, the same in a run and in one that goes on.

``DistributedDataParallel`` packs gradients into buckets, and after its first step packs them anew,
in the order in which they came. Of three processes or more, an element's place in its bucket
decides in which order their numbers are added, and so the last bits of the sum: a run that goes on
would begin with a step of other bits than the unbroken one has there.

The random numbers of all processes, to go on with.
"""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from itm_lightning.distributed import is_distributed, rank, world_size

Loops = dict[str, Any]


def may_cut(trainer: pl.Trainer) -> bool:
    """Whether the end of this batch is a place to cut the run.

    It is not while gradients accumulate, nor where a validation or the epoch's end is to follow:
    then the place is the next batch's end, or the beginning of the next epoch.
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return not (
        epoch_loop._should_accumulate()
        or epoch_loop._is_training_done
        or epoch_loop._should_check_val_fx(fetcher)
    )


def cut(fit_loop: Loops) -> None:
    """Puts the stored state of the fit loop, changed in place, into one of the two forms."""
    epochs = fit_loop["epoch_progress"]
    if epochs["current"]["started"] == epochs["current"]["processed"]:
        _at_an_epochs_beginning(fit_loop)
    _settle(fit_loop["epoch_loop.batch_progress"])


def _at_an_epochs_beginning(fit_loop: Loops) -> None:
    _settle(fit_loop["epoch_progress"])
    optimiser = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for progress in (
        fit_loop["epoch_loop.batch_progress"],
        fit_loop["epoch_loop.scheduler_progress"],
        fit_loop["epoch_loop.val_loop.batch_progress"],
        optimiser["step"],
        optimiser["zero_grad"],
    ):
        _clear(progress["current"])
    for name in ("epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"):
        fit_loop[name]["is_last_batch"] = False
    _clear(fit_loop["epoch_loop.val_loop.batch_progress"]["total"])
    fit_loop["state_dict"].pop("combined_loader", None)  # loaders begin anew


def _settle(progress: dict[str, Any]) -> None:
    """What was processed is done, and nothing else is begun."""
    for counters in (progress["total"], progress["current"]):
        for name in counters:
            counters[name] = counters["processed"]


def _clear(counters: dict[str, int]) -> None:
    for name in counters:
        counters[name] = 0


def begin_loaders(trainer: pl.Trainer, fit_loop: Loops) -> None:
    """Takes the loaders to where the run was cut, before the first batch after a resume.

    Lightning does so when it makes them; but where a schedule asks for the number of steps, it
    makes them before it knows how far the run was.

    Args:
        trainer: about to train.
        fit_loop: the state it has been given, as :func:`cut` left it.
    """
    loop = trainer.fit_loop
    assert loop._combined_loader is not None
    assert loop._data_fetcher is not None
    for loader in loop._combined_loader.flattened:
        _set_sampler_epoch(loader, trainer.current_epoch)
    loop._combined_loader._load_state_dicts(fit_loop["state_dict"].get("combined_loader", []))
    iter(loop._data_fetcher)


def go_on(trainer: pl.Trainer) -> None:
    """At the first batch after a resume, mends what Lightning does not take from a checkpoint."""
    loop = trainer.fit_loop
    # else it would leave out a scheduler's step at the epoch's end
    loop._restarting = False
    # loggers' steps, which it counts one too many in one of the forms
    loop.epoch_loop._batches_that_stepped = trainer.global_step


def settle_buckets(model: Any) -> None:
    """Lets DDP pack its buckets for good before the first step; a collective.

    Without this they would be settled by the first step's gradients. These here are all zero, and
    come from the last parameter to the first.

    Args:
        model: what the strategy has wrapped; nothing happens if it is no DDP, or one that never
            packs anew.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    if model.find_unused_parameters or model.static_graph:
        return
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        nothing = torch.stack([0 * parameter.flatten()[:1].sum().float() for parameter in learnt])
        model.reducer.prepare_for_backward([])
        nothing.sum().backward()
    model.reducer._rebuild_buckets()
    for parameter in learnt:
        parameter.grad = None


State = dict[str, Any]


def random_states() -> list[State]:
    """The state of each process's generators, in plain values; all processes must call this."""
    states: list[Any] = [None] * world_size()
    if not is_distributed():
        return [_own()]
    dist.all_gather_object(states, _own())
    return states


def restore_random_state(states: list[State]) -> None:
    """Takes this process's part of :func:`random_states`; nothing if it was not among them."""
    if rank() >= len(states):
        return
    state = states[rank()]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *others = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *others))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _own() -> State:
    version, numbers, gauss = random.getstate()
    name, keys, *others = cast(tuple[Any, ...], np.random.get_state())
    state = {
        "python": (version, torch.tensor(numbers), gauss),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *others),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
