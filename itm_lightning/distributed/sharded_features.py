"""Features of many photos or captions, of which each process holds some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.distributed.group import DTYPES, Processes, SingleProcess
from itm_lightning.errors import InputError
from itm_lightning.types import Features


@dataclass(frozen=True)
class ShardedFeatures:
    """Features of ``N`` rows; every process knows who holds which, and holds its own.

    Choosing rows (``spread[rows]``, by mask, slice or numbers) moves nothing and is no collective;
    :meth:`take` and :meth:`fetch` are.

    Attributes:
        local: the features that this process holds, in any order; none of them may be wanted.
        owner_rank: ``(N,)`` int64 on the CPU, the process that holds each row.
        local_index: ``(N,)`` int64 on the CPU, the row's number on the process that holds it.
        length: tokens a row where it is handed over: as many as the longest has anywhere.
        device: where they are worked on, a part at a time; ``local`` may wait elsewhere.
        processes: who they are.
    """

    local: Features
    owner_rank: Tensor
    local_index: Tensor
    length: int
    device: torch.device
    processes: Processes

    @classmethod
    def of(
        cls, local: Features | None, device: torch.device, processes: Processes
    ) -> ShardedFeatures:
        """What all processes hold, in the order of their ranks; a collective.

        Args:
            local: this process's; ``None`` where it has none and so cannot know their shape.
            device: where they are to be worked on; features of no rows lie there.
            processes: who they are.

        Raises:
            InputError: nobody has any, or they differ in more than their number of tokens.
        """
        shapes = processes.gather(None if local is None else torch.tensor([_shape(local)]))
        if shapes is None:
            raise InputError("no process has features of photos, or none of captions")
        if len(shapes[:, 1:].unique(dim=0)) > 1:
            raise InputError(
                "the features of the processes differ in width, in kind or in precision: run the "
                "same encoders on all of them"
            )
        local = _no_rows(shapes[0].tolist(), device) if local is None else local
        mine = torch.arange(len(local))
        owner_rank = processes.gather(torch.full_like(mine, processes.rank))
        local_index = processes.gather(mine)
        assert owner_rank is not None
        assert local_index is not None
        return cls(local, owner_rank, local_index, int(shapes[:, 0].max()), device, processes)

    @classmethod
    def here(cls, features: Features) -> ShardedFeatures:
        """Features that this process has for itself."""
        local_index = torch.arange(len(features))
        where = _shape(features)[0], features.device
        return cls(features, torch.zeros_like(local_index), local_index, *where, SingleProcess())

    def __len__(self) -> int:
        return len(self.owner_rank)

    def __getitem__(self, rows: slice | Tensor) -> ShardedFeatures:
        if isinstance(rows, Tensor):
            rows = rows.cpu()
        return replace(self, owner_rank=self.owner_rank[rows], local_index=self.local_index[rows])

    def map(self, function: Callable[[Features], Features]) -> ShardedFeatures:
        """Of everybody's own features, row by row, what the function makes of them."""
        local = function(self.local)
        return replace(self, local=local, length=self.length if local.tokens is not None else 0)

    def take(self, wanted: Sequence[Tensor]) -> Features:
        """Hands each process the rows it wants; a collective.

        Args:
            wanted: numbers of rows, int64, for every process; the same on all of them.

        Returns:
            This process's, in the order in which it wants them; where they need not move, they may
            be a part of what it holds, and not a copy.
        """
        me, size = self.processes.rank, self.processes.size
        theirs = [self.local_index[rows[self.owner_rank[rows] == me]] for rows in wanted]
        sent = [len(rows) for rows in theirs]
        owner_rank = self.owner_rank[wanted[me]]
        received = owner_rank.bincount(minlength=size).tolist()
        picked = self._picked(torch.cat(theirs))
        arrived = _each(picked, lambda rows: self.processes.exchange(rows, sent, received))
        return _as_wanted(arrived, owner_rank)

    def fetch(self, rows: Tensor) -> Features:
        """Hands the same rows to every process, like :meth:`take`; a collective.

        Args:
            rows: their numbers, int64, the same on all processes.
        """
        owner_rank = self.owner_rank[rows]
        counts = owner_rank.bincount(minlength=self.processes.size).tolist()
        picked = self._picked(self.local_index[rows[owner_rank == self.processes.rank]])
        shared = _each(picked, lambda values: self.processes.share(values, counts))
        return _as_wanted(shared, owner_rank)

    def whole(self) -> Features | ShardedFeatures:
        """Plain features, if one process has them for itself and they lie where they are used."""
        if self.processes.size > 1 or self.local.device != self.device:
            return self
        everything = torch.arange(len(self.local))
        return self.local if self.local_index.equal(everything) else self.local[self.local_index]

    def _picked(self, indices: Tensor) -> Features:
        features = self.local[_run(indices)]
        if features.tokens is None or features.mask is None:
            return features
        missing = self.length - features.tokens.shape[1]
        if not missing:
            return features
        tokens, mask = (
            F.pad(features.tokens, (0, 0, 0, missing)),
            F.pad(features.mask, (0, missing)),
        )
        return Features(tokens, mask, features.pooled)


def as_sharded(features: Features | ShardedFeatures) -> ShardedFeatures:
    """Plain features as a :class:`ShardedFeatures` of this process alone."""
    return features if isinstance(features, ShardedFeatures) else ShardedFeatures.here(features)


def _run(indices: Tensor) -> Tensor | slice:
    """A slice, which copies nothing, if the numbers follow one another."""
    if not len(indices) or (indices.diff() != 1).any():
        return indices
    return slice(int(indices[0]), int(indices[-1]) + 1)


def _each(features: Features, function: Callable[[Tensor], Tensor]) -> Features:
    fields = features.tokens, features.mask, features.pooled
    return Features(*(None if field is None else function(field) for field in fields))


def _as_wanted(arrived: Features, owner_rank: Tensor) -> Features:
    """Rows that came sorted by their owner_rank, in the order that was asked for."""
    order = owner_rank.argsort(stable=True)
    in_order = order.equal(torch.arange(len(order)))
    return arrived if in_order else arrived[order.argsort().to(arrived.device)]


def _shape(features: Features) -> list[int]:
    """Tokens a row, width and dtype of the tokens, width and dtype of the vectors."""
    tokens, pooled = features.tokens, features.pooled
    length, *token = [0, 0, 0] if tokens is None else [*tokens.shape[1:], _code(tokens)]
    return [length, *token, *([0, 0] if pooled is None else [pooled.shape[1], _code(pooled)])]


def _no_rows(shape: Sequence[int], device: torch.device) -> Features:
    length, width, code, vector, vector_code = shape
    tokens = mask = pooled = None
    if code:
        tokens = torch.empty(0, length, width, dtype=DTYPES[code - 1], device=device)
        mask = torch.empty(0, length, dtype=torch.bool, device=device)
    if vector_code:
        pooled = torch.empty(0, vector, dtype=DTYPES[vector_code - 1], device=device)
    return Features(tokens, mask, pooled)


def _code(tensor: Tensor) -> int:
    return DTYPES.index(tensor.dtype) + 1  # 0: there is none
