"""VSRN's graph of regions, against its equations written out."""

import pytest
import torch

from itm_lightning.encoders import RecurrentText, RegionFeatures
from itm_lightning.errors import InputError
from itm_lightning.pooling import RegionGraph
from itm_lightning.pooling.region_graph import GraphStep
from itm_lightning.similarity import Cosine, MaxSim
from itm_lightning.training.parameter_groups import freeze_unused
from itm_lightning.types import Features

LENGTHS = (3, 5, 1, 4)
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
DIM = 6


@pytest.fixture
def regions():
    return torch.randn(4, 5, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def stirred(module):
    """With all weights random, so that no term of an equation is idle."""
    generator = torch.Generator().manual_seed(1)
    module = module.double()
    for parameter in module.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator).double()
    return module


def slow_changes(step, regions):
    """``W · a`` of one image, region by region."""
    changes = []
    for here in regions:
        affinities = [step.theta(here) @ step.phi(there) for there in regions]
        seen = [a * step.g(there) for a, there in zip(affinities, regions, strict=True)]
        changes.append(step.w(sum(seen) / len(regions)))
    return torch.stack(changes)


def slow_step(step, images):
    changes = [slow_changes(step, regions) for regions in images]
    everything = torch.cat(changes)
    mean, variance = everything.mean(dim=0), everything.var(dim=0, unbiased=False)
    scale = step.norm.weight / (variance + 1e-5).sqrt()
    return [
        regions + (change - mean) * scale + step.norm.bias
        for regions, change in zip(images, changes, strict=True)
    ]


@torch.no_grad()
def test_a_step_equals_the_equation_region_by_region(regions):
    step = stirred(GraphStep(DIM)).train()
    images = [row[:length] for row, length in zip(regions, LENGTHS, strict=True)]
    expected = slow_step(step, images)
    found = step(regions.masked_fill(~MASK[..., None], 1e3), MASK)
    for row, length, image in zip(found, LENGTHS, expected, strict=True):
        torch.testing.assert_close(row[:length], image)


def test_a_step_at_first_changes_nothing(regions):
    assert GraphStep(DIM).double()(regions, MASK).equal(regions)


@torch.no_grad()
@pytest.mark.parametrize(("first", "final"), [(True, False), (False, True)], ids=["coco", "f30k"])
def test_equals_vsrn_image_by_image(regions, first, final):
    pooling = RegionGraph(steps=2, first_norm=first, final_norm=final)
    pooling.build(DIM)
    stirred(pooling).train()

    def over_regions(image):
        return image / image.square().sum(dim=0).sqrt()

    images = [row[:length] for row, length in zip(regions, LENGTHS, strict=True)]
    images = [over_regions(image) for image in images] if first else images
    for step in pooling.steps:
        images = slow_step(step, images)
    images = [over_regions(image) for image in images]
    vectors = torch.stack([pooling.gru(image[None])[1][0, 0] for image in images])
    if final:
        mean, variance = vectors.mean(dim=0), vectors.var(dim=0, unbiased=False)
        scale = pooling.norm.weight / (variance + 1e-5).sqrt()
        vectors = (vectors - mean) * scale + pooling.norm.bias

    related = pooling.relate(regions, MASK)
    for row, length, image in zip(related, LENGTHS, images, strict=True):
        torch.testing.assert_close(row[:length], image)
    torch.testing.assert_close(pooling(related, MASK), vectors)


def test_an_encoder_gives_the_regions_after_the_graph():
    encoder = RegionFeatures(DIM, pooling=RegionGraph())
    given = torch.randn(4, 5, DIM)
    features = encoder(Features(given, MASK, None))
    assert features.tokens.equal(encoder.pooling.relate(given, MASK))
    assert features.pooled.equal(encoder.pooling(features.tokens, MASK))


def test_a_head_of_tokens_trains_the_graph_alone():
    """Distributed training would wait for the gradient of the GRU."""
    encoder, texts = RegionFeatures(DIM, pooling=RegionGraph()), RecurrentText(hidden=3)
    freeze_unused((encoder, texts), Cosine())
    assert all(p.requires_grad for p in encoder.pooling.parameters())
    freeze_unused((encoder, texts), MaxSim())
    trained = {n for n, p in encoder.pooling.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in encoder.pooling.named_parameters() if "gru" not in n}
    assert encoder.pooling.steps[0].norm.running_mean.equal(torch.zeros(DIM))


def test_no_step_is_refused():
    with pytest.raises(InputError, match="RegionGraph: steps is 0; it must be at least 1"):
        RegionGraph(steps=0)
