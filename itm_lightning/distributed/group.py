"""The processes that work together, as an object: a single one, or a process group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist
from typing_extensions import override

from itm_lightning.errors import InputError, one_line


def is_distributed() -> bool:
    """Whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process; 0 if it is the only one."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if is_distributed() else 1


DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.bool,
    torch.uint8,
)
_MAX_DIMS = 4


def gather_rows(
    tensor: Tensor | None, device: torch.device, group: dist.ProcessGroup | None = None
) -> Tensor | None:
    """The rows of all processes, in the order of their ranks; without gradient.

    A collective: every process must call it. Nothing is pickled; shapes go first.

    Args:
        tensor: ``(B, …)``; ``B`` may differ between processes. Other dimensions that differ (the
            number of words) are padded with zeros to the largest. ``None`` if a process has no
            rows and so cannot know their shape.
        device: where the process group moves tensors, and where the result lies.
        group: the processes; all of them if ``None``.

    Returns:
        ``(ΣB, …)``, or ``None`` if no process has rows.
    """
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return tensor
    headers = [header.tolist() for header in _all_gather(_header(tensor, device), group)]
    shapes = [dims[:n_dims] for n_dims, _, *dims in headers if n_dims]
    if not shapes:
        return None
    dtype = next(DTYPES[code] for n_dims, code, *_ in headers if n_dims)
    padded = torch.zeros([max(sizes) for sizes in zip(*shapes, strict=True)], dtype=dtype)
    padded = padded.to(device)
    if tensor is not None:
        padded[tuple(slice(size) for size in tensor.shape)] = tensor.detach()
    # as bytes: not every backend moves bool and bfloat16
    parts = [padded] * len(headers)
    if padded.numel():
        parts = _all_gather(padded.view(torch.uint8), group)
    return torch.cat(
        [part.view(dtype)[: header[2]] for part, header in zip(parts, headers, strict=True)]
    )


def _header(tensor: Tensor | None, device: torch.device) -> Tensor:
    """Number of dimensions (0: no rows known), dtype, and the sizes, filled up with zeros."""
    values = [0, 0] if tensor is None else [tensor.ndim, DTYPES.index(tensor.dtype), *tensor.shape]
    return torch.tensor(values + [0] * (2 + _MAX_DIMS - len(values)), device=device)


def _all_gather(tensor: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return parts


_CPU_BACKENDS = ("gloo", "mpi")


class Processes(ABC):
    """The processes that work together; every method is a collective.

    Code that is given such an object exchanges data with these processes only, whatever process
    group exists.

    Attributes:
        rank: the number of this process among them.
        size: how many there are.
    """

    rank: int
    size: int

    @abstractmethod
    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on which it has the same shape."""

    @abstractmethod
    def gather(self, rows: Tensor | None) -> Tensor | None:
        """The rows of all processes; see :func:`~itm_lightning.distributed.gather_rows`."""

    @abstractmethod
    def all_to_all(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Sends to each process its own rows.

        Args:
            rows: ``(Σ sent, d, …)``, sorted by the process that they go to.
            sent: how many go to each.
            received: how many come from each.

        Returns:
            ``(Σ received, d, …)``, sorted by the process that they come from.
        """

    @abstractmethod
    def all_gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Sends the rows of all processes to all processes, without padding.

        Args:
            rows: ``(counts[rank], d, …)``.
            counts: how many each process has.

        Returns:
            ``(Σ counts, d, …)``, sorted by process.
        """

    @abstractmethod
    def raise_together(self, error: Exception | None) -> None:
        """Raises an error on all processes if there is one on any, so that none waits forever.

        Raises:
            InputError: the error of the first process that has one, if it is an InputError.
            Exception: the error of this process, of another kind.
            RuntimeError: another process has an error of another kind.
        """


class SingleProcess(Processes):
    """This process alone, even if a process group exists."""

    rank, size = 0, 1

    @override
    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    @override
    def gather(self, rows: Tensor | None) -> Tensor | None:
        return rows

    @override
    def all_to_all(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        return rows

    @override
    def all_gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        return rows

    @override
    def raise_together(self, error: Exception | None) -> None:
        if error is not None:
            raise error


class ProcessGroup(Processes):
    """The processes of a torch process group; all of them if ``None``."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank, self.size = dist.get_rank(self._group), dist.get_world_size(self._group)
        self._wire = torch.device("cpu")  # where the group moves tensors
        if dist.get_backend(self._group) not in _CPU_BACKENDS:
            self._wire = torch.device("cuda", torch.cuda.current_device())

    @override
    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.to(self._wire, copy=True)
        dist.all_reduce(total, group=self._group)
        return total.to(tensor.device)

    @override
    def gather(self, rows: Tensor | None) -> Tensor | None:
        gathered = gather_rows(rows, self._wire, self._group)
        return gathered if rows is None or gathered is None else gathered.to(rows.device)

    @override
    def all_to_all(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        mine = rows.to(self._wire).contiguous()
        arrived = mine.new_empty((sum(received), *rows.shape[1:]))
        counts = list(received), list(sent)
        dist.all_to_all_single(_bytes(arrived), _bytes(mine), *counts, group=self._group)
        return arrived

    @override
    def all_gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        everything = torch.empty((sum(counts), *rows.shape[1:]), dtype=rows.dtype)
        everything = everything.to(self._wire)
        for source, part in enumerate(everything.split(list(counts))):
            if source == self.rank:
                part.copy_(rows)
            if len(part):
                dist.broadcast(_bytes(part), self._number(source), group=self._group)
        return everything

    @override
    def raise_together(self, error: Exception | None) -> None:
        if not self.sum(torch.tensor(int(error is not None))):
            return
        message = self._first_message(error)
        if error is not None and not isinstance(error, InputError):
            raise error
        if message.startswith(InputError.__name__):
            raise InputError(message.removeprefix(f"{InputError.__name__}: ")) from error
        raise RuntimeError(f"another process failed: {message}") from error

    def _number(self, rank: int) -> int:
        """The number among all processes, which torch expects, of a process of this group."""
        return rank if self._group is None else dist.get_global_rank(self._group, rank)

    def _first_message(self, error: Exception | None) -> str:
        mine = None
        if error is not None:
            kind = InputError if isinstance(error, InputError) else type(error)
            text = f"{kind.__name__}: {one_line(error)}".encode()
            mine = torch.tensor([list(text)], dtype=torch.uint8)
        messages = gather_rows(mine, self._wire, self._group)
        assert messages is not None  # one of them has an error
        return bytes(messages[0].tolist()).rstrip(b"\0").decode()


def all_processes(group: dist.ProcessGroup | None = None) -> Processes:
    """Those of the group (of all if ``None``) if one exists, otherwise this one alone."""
    if is_distributed() and dist.get_world_size(group) > 1:
        return ProcessGroup(group)
    return SingleProcess()


def _bytes(rows: Tensor) -> Tensor:
    """``(n, bytes a row)`` in place: not every backend moves bool and bfloat16."""
    return rows.flatten(1).view(torch.uint8)
