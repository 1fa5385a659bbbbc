"""Batch normalisation with statistics that exclude padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.distributed.collectives import all_reduce_sum
from itm_lightning.distributed.group import Processes, SingleProcess, all_processes

_EPS = 1e-5
_MOMENTUM = 0.1


class MaskedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) over the real values of each channel.

    Where all values are real it is :class:`torch.nn.BatchNorm1d`, except that a channel with a
    single value is no error (it becomes its bias), and that a batch may have fewer channels: the
    missing ones keep their running statistics.

    As in torch, the statistics are those of this process, and those of all processes after
    :meth:`torch.nn.SyncBatchNorm.convert_sync_batchnorm` (Lightning's ``sync_batchnorm: true``).

    Args:
        channels: how many channels there are at most.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.synchronised = False
        # Without weights, and never called. The conversion replaces torch's own classes only, and
        # this one tells us that it ran: see add_module.
        self.torchs = nn.BatchNorm1d(channels, affine=False, track_running_stats=False)

    @override
    def add_module(self, name: str, module: nn.Module | None) -> None:
        """The conversion, and Lightning's way back, call it to replace ``torchs``."""
        # not kept: DistributedDataParallel refuses torch's class on CPUs, where this one works
        self.synchronised = isinstance(module, nn.SyncBatchNorm)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Normalised values; those at padding have no meaning.

        Args:
            values: ``(B, C, K)``, of the first ``C`` channels.
            mask: bool that can be expanded to ``(B, C, K)``, ``True`` at real values.
        """
        first = slice(values.shape[1])
        if self.training:
            mean, variance = self._moments(values, mask.expand_as(values))
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight[first] * (variance[first] + _EPS).rsqrt()
        return (values - mean[first, None]) * scale[:, None] + self.bias[first, None]

    def _moments(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        count = self._total(mask)
        mean = self._total(values * mask) / count.clamp(min=1)
        deviations = (values - mean[: values.shape[1], None]) * mask
        variance = self._total(deviations.square()) / count.clamp(min=1)
        self._remember(mean.detach(), variance.detach(), count)
        return mean, variance

    def _total(self, values: Tensor) -> Tensor:
        """The sum of values ``(B, C, K)`` in each channel, over all processes if synchronised.

        The batch of another process may have channels that this one has not.
        """
        lacking = len(self.weight) - values.shape[1]
        return all_reduce_sum(F.pad(values.sum(dim=(0, 2)), (0, lacking)), self._processes())

    def _processes(self) -> Processes:
        return all_processes() if self.synchronised else SingleProcess()

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        unbiased = variance * count / (count - 1).clamp(min=1)
        weight = _MOMENTUM * (count > 0)
        for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.lerp_(now.to(running.dtype), weight.to(running.dtype))
