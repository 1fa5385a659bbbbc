"""Batch normalisation whose statistics leave padding out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPS = 1e-5
_MOMENTUM = 0.1


class MaskedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) over the real values of each channel.

    Where all values are real it is :class:`torch.nn.BatchNorm1d`, except that a channel with a
    single value is no error (it becomes its bias), and that a batch may have fewer channels: those
    it lacks keep their running statistics.

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

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Normalised values; what stands at padding means nothing.

        Args:
            values: ``(B, C, K)``, of the first ``C`` channels.
            mask: bool that can be expanded to ``(B, C, K)``, ``True`` at real values.
        """
        first = slice(values.shape[1])
        if self.training:
            mean, variance = self._moments(values, mask.expand_as(values))
        else:
            mean, variance = self.running_mean[first], self.running_var[first]
        scale = self.weight[first] * (variance + _EPS).rsqrt()
        return (values - mean[:, None]) * scale[:, None] + self.bias[first, None]

    def _moments(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        count = mask.sum(dim=(0, 2))
        mean = (values * mask).sum(dim=(0, 2)) / count.clamp(min=1)
        deviations = (values - mean[:, None]) * mask
        variance = deviations.square().sum(dim=(0, 2)) / count.clamp(min=1)
        self._remember(mean.detach(), variance.detach(), count)
        return mean, variance

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        unbiased = variance * count / (count - 1).clamp(min=1)
        weight = _MOMENTUM * (count > 0)
        for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
            running[: len(now)].lerp_(now.to(running.dtype), weight.to(running.dtype))
