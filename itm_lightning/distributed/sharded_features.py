"""Features of many images or texts, of which each process holds some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from itm_lightning.distributed.group import DTYPES, Processes, SingleProcess
from itm_lightning.errors import InputError
from itm_lightning.types import AnyFeatures, Features, MemberFeatures


@dataclass(frozen=True)
class ShardedFeatures:
    """Features of ``N`` rows; every process knows which process holds which row.

    Choosing rows (``sharded[rows]``, by mask, slice or numbers) moves nothing and is no collective;
    :meth:`take` and :meth:`fetch` are.

    Attributes:
        local: the features that this process holds, in any order and more than are chosen.
        empty: no rows, of the size in which rows are sent: with as many tokens as the longest row
            of any process has.
        owner_rank: ``(N,)`` int64 on the CPU, the process that holds each row.
        local_index: ``(N,)`` int64 on the CPU, the row's number on the process that holds it.
        device: where the rows are used, a part at a time; ``local`` may wait elsewhere.
        processes: those that hold the rows together.
    """

    local: AnyFeatures
    empty: AnyFeatures
    owner_rank: Tensor
    local_index: Tensor
    device: torch.device
    processes: Processes

    @classmethod
    def of(
        cls, local: AnyFeatures | None, device: torch.device, processes: Processes
    ) -> ShardedFeatures:
        """The rows of all processes, in the order of their ranks; a collective.

        Args:
            local: those of this process; ``None`` where it has none and cannot know their shape.
            device: where the rows are to be used.
            processes: those that hold the rows together.

        Raises:
            InputError: no process has rows, or they differ in more than their number of tokens.
        """
        headers = processes.gather(None if local is None else _header(local))
        if headers is None:
            raise InputError("no process has features of photos, or none of captions")
        kinds = headers.clone()
        kinds[:, :, :2, 1] = 0  # the number of tokens may differ
        if len(kinds.unique(dim=0)) > 1:
            raise InputError(
                "the features of the processes differ in width, in kind or in precision: run the "
                "same encoders on all of them"
            )
        empty = _empty(headers.amax(dim=0).tolist(), device)
        local = empty if local is None else local
        rows = torch.arange(len(local))
        owner_rank = processes.gather(torch.full_like(rows, processes.rank))
        local_index = processes.gather(rows)
        assert owner_rank is not None
        assert local_index is not None
        return cls(local, empty, owner_rank, local_index, device, processes)

    @classmethod
    def here(cls, features: AnyFeatures) -> ShardedFeatures:
        """Features of this process alone."""
        rows = torch.arange(len(features))
        owner_rank, empty = torch.zeros_like(rows), features[:0]
        return cls(features, empty, owner_rank, rows, features.device, SingleProcess())

    def __len__(self) -> int:
        return len(self.owner_rank)

    def __getitem__(self, rows: slice | Tensor) -> ShardedFeatures:
        if isinstance(rows, Tensor):
            rows = rows.cpu()
        owner_rank, local_index = self.owner_rank[rows], self.local_index[rows]
        return replace(self, owner_rank=owner_rank, local_index=local_index)

    def map(self, function: Callable[[Any], AnyFeatures]) -> ShardedFeatures:
        """The features that a function makes of every row; it must treat each row by itself."""
        return replace(self, local=function(self.local), empty=function(self.empty))

    def take(self, wanted: Sequence[Tensor]) -> AnyFeatures:
        """Gives each process the rows that it wants; a collective.

        Args:
            wanted: numbers of rows, int64, for every process; the same on all of them.

        Returns:
            The rows of this process, in the order of its numbers. Where they need not move, they
            may share memory with :attr:`local`.
        """
        rank, size = self.processes.rank, self.processes.size
        leaving = [self.local_index[rows[self.owner_rank[rows] == rank]] for rows in wanted]
        sent = [len(rows) for rows in leaving]
        owner_rank = self.owner_rank[wanted[rank]]
        received = owner_rank.bincount(minlength=size).tolist()
        picked = self._picked(torch.cat(leaving))
        arrived = picked.map(lambda rows: self.processes.all_to_all(rows, sent, received))
        return _in_given_order(arrived, owner_rank)

    def fetch(self, rows: Tensor) -> AnyFeatures:
        """Gives the same rows to every process, as :meth:`take` does; a collective.

        Args:
            rows: their numbers, int64, the same on all processes.
        """
        owner_rank = self.owner_rank[rows]
        counts = owner_rank.bincount(minlength=self.processes.size).tolist()
        picked = self._picked(self.local_index[rows[owner_rank == self.processes.rank]])
        shared = picked.map(lambda values: self.processes.all_gather(values, counts))
        return _in_given_order(shared, owner_rank)

    def whole(self) -> AnyFeatures | ShardedFeatures:
        """Plain features, if they are of one process and lie where they are used."""
        if self.processes.size > 1 or self.local.device != self.device:
            return self
        in_order = self.local_index.equal(torch.arange(len(self.local)))
        return self.local if in_order else self.local[self.local_index]

    def _picked(self, indices: Tensor) -> AnyFeatures:
        shapes = [tensor.shape[1:] for tensor in self.empty.tensors()]
        return self.local[_slice_if_consecutive(indices)].padded(shapes)


def as_sharded(features: AnyFeatures | ShardedFeatures) -> ShardedFeatures:
    """Plain features as a :class:`ShardedFeatures` of this process alone."""
    return features if isinstance(features, ShardedFeatures) else ShardedFeatures.here(features)


def _slice_if_consecutive(indices: Tensor) -> Tensor | slice:
    """A slice copies nothing."""
    if not len(indices) or (indices.diff() != 1).any():
        return indices
    return slice(int(indices[0]), int(indices[-1]) + 1)


def _in_given_order(arrived: AnyFeatures, owner_rank: Tensor) -> AnyFeatures:
    """Rows that arrived sorted by the process that holds them, in the order of ``owner_rank``."""
    order = owner_rank.argsort(stable=True)
    in_order = order.equal(torch.arange(len(order)))
    return arrived if in_order else arrived[order.argsort().to(arrived.device)]


def _header(features: AnyFeatures) -> Tensor:
    """``(1, parts, 3, 3)`` int64: code of the dtype, or 0, and sizes of tokens, mask and pooled."""
    parts = [
        [_code_and_sizes(tensor) for tensor in (part.tokens, part.mask, part.pooled)]
        for part in features.parts
    ]
    return torch.tensor([parts])


def _code_and_sizes(tensor: Tensor | None) -> list[int]:
    if tensor is None:
        return [0, 0, 0]
    sizes = [*tensor.shape[1:], 0]
    return [DTYPES.index(tensor.dtype) + 1, *sizes[:2]]


def _empty(header: list[list[list[int]]], device: torch.device) -> AnyFeatures:
    """No rows, of the kind and size that a header tells of."""
    parts = tuple(
        Features(
            *(
                torch.empty((0, *sizes[:n_dims]), dtype=DTYPES[code - 1], device=device)
                if code
                else None
                for (code, *sizes), n_dims in zip(part, (2, 1, 1), strict=True)
            )
        )
        for part in header
    )
    return parts[0] if len(parts) == 1 else MemberFeatures(parts)
