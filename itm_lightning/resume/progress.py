"""How a checkpoint is made such that the resumed run is the uninterrupted one, bit by bit.

**Counters.** Lightning stores its counters as they are in the middle of a hook and, when it
resumes, infers from them what had been done. In some places it infers wrongly and leaves out a
validation, a step of the scheduler, or an epoch. Here the counters are brought into one of two
forms that are unambiguous: some batches of an epoch are done, or some epochs are.

**Buckets.** ``DistributedDataParallel`` sums gradients in buckets, and orders these anew after its
first step, by the order in which the gradients came. With three processes or more, an element's
position in its bucket decides in which order the processes' values are added, and so the last bits
of the sum. A resumed run would take one step with other buckets than the uninterrupted run.

**Random numbers**, of all processes.
"""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from itm_lightning.distributed import is_distributed, rank, world_size
from itm_lightning.utils.internals import rebuild_buckets

Loops = dict[str, Any]
State = dict[str, Any]


# -- counters -----------------------------------------------------------------------------------


def normalise_counters(fit_loop: Loops) -> None:
    """Brings the stored state of the fit loop, in place, into one of the two forms."""
    epochs = fit_loop["epoch_progress"]
    if epochs["current"]["started"] == epochs["current"]["processed"]:
        _between_epochs(fit_loop)
    _complete(fit_loop["epoch_loop.batch_progress"])


def _between_epochs(fit_loop: Loops) -> None:
    _complete(fit_loop["epoch_progress"])
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
    fit_loop["state_dict"].pop("combined_loader", None)  # the loader begins an epoch


def _complete(progress: dict[str, Any]) -> None:
    """What was processed counts as completed, and nothing else as begun."""
    for counters in (progress["total"], progress["current"]):
        for name in counters:
            counters[name] = counters["processed"]


def _clear(counters: dict[str, int]) -> None:
    for name in counters:
        counters[name] = 0


def restore_loader(trainer: pl.Trainer, fit_loop: Loops) -> None:
    """Tells the loader how far the run was, before the first batch after a resume.

    Lightning does so when it makes the loader; but where a schedule asks for the number of steps,
    it makes the loader before it has read the checkpoint.

    Args:
        trainer: about to train.
        fit_loop: the state that was loaded, as :func:`normalise_counters` left it.
    """
    states = fit_loop["state_dict"].get("combined_loader", [])
    if states:
        (state,) = states
        cast(Any, trainer.train_dataloader).load_state_dict(state)


def finish_restart(trainer: pl.Trainer) -> None:
    """At the first batch after a resume, corrects what Lightning infers wrongly.

    Otherwise it would leave out a step of the scheduler at the epoch's end, as if that had been
    done, and count the loggers' steps one too high in one of the two forms.
    """
    loop = trainer.fit_loop
    loop.on_iteration_done()
    loop.epoch_loop.on_load_checkpoint({"_batches_that_stepped": trainer.global_step})


# -- buckets ------------------------------------------------------------------------------------


def settle_buckets(model: Any) -> None:
    """Makes DDP order its buckets for good before the first step; a collective.

    The order then follows from gradients that are all zero, and come from the last parameter to
    the first, in every run.

    Args:
        model: what the strategy has wrapped; nothing happens if it is no DDP, or one that never
            orders its buckets anew.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    if model.find_unused_parameters or model.static_graph:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        zeros = torch.stack([0 * parameter.flatten()[:1].sum().float() for parameter in trained])
        model.reducer.prepare_for_backward([])
        zeros.sum().backward()
    rebuild_buckets(model)
    for parameter in trained:
        parameter.grad = None


# -- random numbers -----------------------------------------------------------------------------


def random_states() -> list[State]:
    """The state of each process's generators, in plain values; a collective."""
    states: list[Any] = [None] * world_size()
    if not is_distributed():
        return [_own_random_state()]
    dist.all_gather_object(states, _own_random_state())
    return states


def restore_random_state(states: list[State]) -> None:
    """Sets this process's generators from :func:`random_states`, if it was among those processes.

    Args:
        states: one a process.
    """
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


def _own_random_state() -> State:
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
