"""The gradient cache on one process; on several, see tests/distributed/test_training.py."""

import weakref

import pytest
import torch
from torch import nn

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.errors import InputError
from itm_lightning.objectives import InfoNCE
from itm_lightning.similarity import CrossAttention
from itm_lightning.training.gradient_cache import encode_by_chunks
from itm_lightning.types import Batch, Features
from tests.made_up import encoded_batch
from tests.test_matcher import trainer

TEXTS = ["a red ring", "two things left of a very small blue box", "a", "a box", "red"]


def matcher(network="squeezenet1_1", gradient_cache=None):
    torch.manual_seed(0)
    return Matcher(
        TorchvisionCNN(network, image_size=64),
        RecurrentText(hidden=8, word_dim=8, dropout=0.3),
        CrossAttention(),
        InfoNCE(),
        dim=8,
        dropout=0.3,
        gradient_cache=gradient_cache,
    )


def step(gradient_cache, encode):
    """Loss and gradients of a step in float64; ``encode`` makes features of the batch."""
    model = matcher(gradient_cache=gradient_cache)
    model.text_encoder.learn_vocabulary(TEXTS)
    model.double().log = lambda *args, **kwargs: None
    ids = torch.arange(5)
    if encode:
        model.encode_batch = lambda batch: encoded_batch(*encode(model, batch), ids)
    images = torch.rand(5, 3, 64, 64, dtype=torch.float64)
    torch.manual_seed(1)
    loss = model.training_step(
        Batch(images, TEXTS, ids, ids, ids, torch.zeros(5, 0, dtype=torch.bool)), 0
    )
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters()]


def two_by_two(model, batch):
    """What a cache of two encodes, kept."""
    parts = [slice(start, start + 2) for start in (0, 2, 4)]
    images = Features.cat([model.encode_images(batch.images[part]) for part in parts])
    return images, Features.cat([model.encode_texts(batch.texts[part]) for part in parts])


def test_a_step_is_that_of_the_same_chunks_kept():
    """With dropout of words, of channels, and captions that pad to lengths of their own."""
    (kept, expected), (cached, gradients) = step(None, two_by_two), step(2, None)
    torch.testing.assert_close(cached, kept, rtol=1e-12, atol=0)
    assert sum(gradient is not None for gradient in expected) > 10
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-13)


class Watched(nn.Module):
    """An encoder that knows how many of its activations are in memory at once."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 64), nn.Linear(64, 8)
        self.alive, self.most = weakref.WeakSet(), 0

    def forward(self, images):
        hidden = self.first(images).tanh()
        self.alive.add(hidden)
        self.most = max(self.most, len(self.alive))
        return Features.from_pooled(self.second(hidden))


def test_one_chunks_activations_at_most_are_in_memory():
    encoder, images = Watched(), torch.randn(12, 8)
    features = encode_by_chunks(encoder, images, 3, images)
    assert len(encoder.alive) == 0
    features.pooled.square().sum().backward()
    assert encoder.most == 1


@pytest.mark.parametrize("size", [0, -4])
def test_a_chunk_of_nothing_is_refused(size):
    with pytest.raises(InputError, match=f"gradient_cache is {size}; it must be at least 1"):
        matcher(gradient_cache=size)


def test_batch_norm_in_training_is_refused_before_it_trains(tmp_path):
    data = ITMDataModule(Scenes(train=4, val=2, test=2), batch_size=4)
    model, runner = matcher("resnet18", gradient_cache=2), trainer(tmp_path, limit_val_batches=0)
    with pytest.raises(InputError, match=r"image_encoder\.network\.bn1 \(BatchNorm2d\).*freeze"):
        runner.fit(model, datamodule=data)
    for module in model.image_encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    runner = trainer(tmp_path, limit_val_batches=0)
    runner.fit(model, datamodule=data)
    assert float(runner.callback_metrics["train/loss"]) > 0
