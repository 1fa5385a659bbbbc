import pytest
import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm

from itm_lightning.distributed.masked_batch_norm import MaskedBatchNorm


@pytest.fixture
def values():
    return 3 * torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) + 2


def both(channels):
    norms = torch.nn.BatchNorm1d(channels), MaskedBatchNorm(channels)
    for norm in norms:
        norm.load_state_dict(
            {"weight": torch.arange(1.0, channels + 1), "bias": torch.arange(float(channels))},
            strict=False,
        )
    return norms


def test_without_padding_it_is_batch_norm(values):
    torchs, ours = both(5)
    everything = torch.ones(1, dtype=torch.bool)
    for _ in range(2):
        torch.testing.assert_close(ours(values, everything), torchs(values))
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(torchs, name))
    torch.testing.assert_close(ours.eval()(values, everything), torchs.eval()(values))


def test_padding_is_left_out(values):
    _, norm = both(5)
    mask = torch.arange(5)[None] < torch.tensor([[5], [2], [3], [1]])
    normalised = norm(values.masked_fill(~mask[..., None], 1e6), mask[..., None])
    for channel in range(5):
        real = values[mask[:, channel], channel]
        expected = (real - real.mean()) / (real.var(correction=0) + 1e-5).sqrt()
        expected = expected * (channel + 1) + channel
        torch.testing.assert_close(
            normalised[mask[:, channel], channel], expected, atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(norm.running_mean[channel], 0.1 * real.mean())
        torch.testing.assert_close(norm.running_var[channel], 0.9 + 0.1 * real.var())


def test_channels_that_a_batch_lacks_keep_their_statistics(values):
    _, norm = both(7)
    mask = torch.arange(5)[None, :, None] < 4
    assert norm(values, mask).shape == values.shape
    assert norm.running_mean[:4].abs().min() > 0
    assert norm.running_mean[4:].tolist() == [0, 0, 0]
    assert norm.running_var[4:].tolist() == [1, 1, 1]


def test_a_single_value_becomes_the_bias():
    _, norm = both(2)
    normalised = norm(torch.tensor([[[5.0], [7.0]]]), torch.ones(1, dtype=torch.bool))
    assert normalised.flatten().tolist() == [0.0, 1.0]


def test_takes_everybodys_statistics_where_torchs_batch_norms_do():
    """Lightning's ``sync_batchnorm: true`` is this conversion, and after the fit its way back."""
    norm = MaskedBatchNorm(2)
    holder, names = torch.nn.Sequential(norm), set(norm.state_dict())
    TorchSyncBatchNorm().apply(holder)
    assert norm.synchronised
    TorchSyncBatchNorm().revert(holder)
    assert not norm.synchronised
    assert holder[0] is norm
    assert names == set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var"}
