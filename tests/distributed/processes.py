"""Groups of gloo processes: for all the scenarios of a test module, or for the command line."""

import faulthandler
import multiprocessing
import os
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import torch
from filelock import FileLock
from torch import distributed as dist
from torch import multiprocessing as mp

from itm_lightning.cli import main


def in_this_process(args):
    """Runs ``lightning`` with ddp of one process, of which nothing remains."""
    with mock.patch.dict(os.environ):  # it tells of its address there
        main(args)
    dist.destroy_process_group()


def in_processes(args, folder, count, port):
    """Runs ``lightning`` in a folder, in so many processes, as torchrun would start them."""
    preload(__name__)
    settings = args, str(folder), count, port
    mp.start_processes(_lightning, settings, nprocs=count, start_method="forkserver")


def _lightning(process, args, folder, count, port):
    join(process, count, port)
    os.chdir(folder)
    with open(f"output{process}", "w") as output, redirect_stdout(output), redirect_stderr(output):
        main(args)


def join(process, count, port):
    """Makes this process one of several, as torchrun would start it."""
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), process)
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), count)
    group = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "GROUP_RANK": 0}
    known = {**ranks, **sizes, **group, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in known.items()})
    torch.set_num_threads(1)


def preload(module):
    """Has a server that imports everything once start processes, instead of an import each."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([module])


def once(tmp_path_factory, name, make):
    """The folder in which ``make(folder)`` left something, once for all workers of xdist."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = tmp_path_factory.mktemp(name)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def in_groups(outcomes, worlds, tmp_path_factory):
    """What ``outcomes()`` returns within groups of processes.

    Args:
        outcomes: a function of a module's; it is called once in every process of each group.
        worlds: the numbers of processes, largest first.
        tmp_path_factory: pytest's.

    Returns:
        By number of processes, a list of each process's.
    """

    def start(folder):
        preload(outcomes.__module__)
        how = {"nprocs": max(worlds), "start_method": "forkserver"}
        mp.start_processes(_work, args=(outcomes, worlds, str(folder)), **how)

    folder = once(tmp_path_factory, f"{outcomes.__module__}-{worlds}", start)
    return {
        world: [torch.load(folder / f"{world}-{p}.pt", weights_only=False) for p in range(world)]
        for world in worlds
    }


def _work(process, outcomes, worlds, folder):
    faulthandler.enable()  # a crash of torch's own code says where
    torch.set_num_threads(1)
    for world in worlds:
        if process < world:
            store = f"file://{folder}/store{world}"
            dist.init_process_group("gloo", init_method=store, rank=process, world_size=world)
            torch.save(outcomes(), f"{folder}/{world}-{process}.pt")
            dist.destroy_process_group()
