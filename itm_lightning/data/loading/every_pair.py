"""All pairs, each exactly once over all processes, as a closed-form fit needs them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset, get_worker_info

from itm_lightning.data.loading.samples import PairDataset
from itm_lightning.distributed import rank, world_size
from itm_lightning.errors import InputError
from itm_lightning.types import Batch


class EveryPairOnce(IterableDataset[Batch]):
    """Batches of this process's share of the pairs, in the same number on every process.

    It is iterable because Lightning gives any other dataset a sampler that repeats pairs, until all
    processes have equally many.

    Args:
        pairs: those of all processes.
        batch_size: the number of pairs in a batch, approximately.

    Raises:
        InputError: there are fewer pairs than processes.
    """

    def __init__(self, pairs: PairDataset, batch_size: int) -> None:
        if len(pairs) < world_size():
            raise InputError(
                f"{len(pairs)} training pairs are too few for {world_size()} processes: set "
                "trainer.devices: 1"
            )
        self.pairs = pairs
        self.rank, self.processes = rank(), world_size()  # a worker process does not know them
        self.batches = math.ceil(len(pairs) // self.processes / batch_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        own = torch.arange(self.rank, len(self.pairs), self.processes)
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for rows in own.tensor_split(self.batches)[first::step]:
            yield self.pairs.__getitems__(rows.tolist())
