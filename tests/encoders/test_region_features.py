import pytest
import torch

from itm_lightning.encoders import RegionFeatures
from itm_lightning.encoders.region_features import drop_regions
from itm_lightning.errors import InputError
from itm_lightning.pooling import MaxPooling
from itm_lightning.types import Features


def regions(n=4, length=6, dim=3, dtype=torch.float32):
    """Region ``l`` of photo ``b`` is ``10 b + l`` throughout; photo ``b`` has ``length - b``."""
    numbers = 10.0 * torch.arange(n)[:, None] + torch.arange(length)
    mask = torch.arange(length) < length - torch.arange(n)[:, None]
    tokens = numbers[..., None].expand(-1, -1, dim).to(dtype).clone()
    return Features(tokens, mask, None)


def test_regions_are_handed_on_as_they_are():
    given = regions()
    features = RegionFeatures(3).train()(given)
    assert torch.equal(features.tokens, given.tokens)
    assert torch.equal(features.mask, given.mask)
    expected = [torch.arange(6 - b).float().mean() + 10 * b for b in range(4)]
    torch.testing.assert_close(features.pooled[:, 0], torch.stack(expected))


def test_half_precision_regions_are_computed_with_in_full():
    features = RegionFeatures(3)(regions(dtype=torch.float16))
    assert features.tokens.dtype == features.pooled.dtype == torch.float32


def test_pooling_sees_the_mask():
    features = RegionFeatures(3, pooling=MaxPooling())(regions())
    assert features.pooled[:, 0].tolist() == [5, 14, 23, 32]


def test_evaluation_drops_nothing():
    given = regions()
    features = RegionFeatures(3, drop=0.9).eval()(given)
    assert torch.equal(features.tokens, given.tokens)


def test_training_drops_the_share_it_is_told():
    torch.manual_seed(0)
    n, length, drop = 400, 50, 0.2
    features = RegionFeatures(1, drop=drop).train()(regions(n, length=length + n, dim=1))
    kept = features.mask.sum(dim=1) / (length + n - torch.arange(n))
    assert kept.mean().item() == pytest.approx(1 - drop, abs=0.01)
    assert kept.min() < 1 - drop < kept.max()


def test_what_stays_are_real_regions_of_the_same_image_in_their_order():
    torch.manual_seed(0)
    given = regions()
    seen = set()
    for _ in range(60):
        kept, mask = drop_regions(given.tokens, given.mask, 0.5)
        assert mask.any(dim=0).all()  # no column of padding alone
        for image in range(4):
            numbers = kept[image, mask[image], 0].tolist()
            assert numbers
            assert numbers == sorted(set(numbers))
            assert set(numbers) <= {10 * image + k for k in range(6 - image)}
            assert mask[image].tolist() == [True] * len(numbers) + [False] * (
                mask.shape[1] - len(numbers)
            )
            seen |= set(numbers)
    assert len(seen) == 6 + 5 + 4 + 3  # each of them stays now and then


def test_at_least_one_region_stays_and_not_always_the_same():
    torch.manual_seed(0)
    given = regions(n=1)
    survivors = set()
    for _ in range(60):
        kept, mask = drop_regions(given.tokens, given.mask, 0.999)
        assert mask.sum() == 1
        survivors.add(kept[0, 0, 0].item())
    assert survivors == {0, 1, 2, 3, 4, 5}


def test_gradient_reaches_the_pooling_only():
    encoder = RegionFeatures(3, drop=0.5).train()
    assert encoder.frozen
    assert list(encoder.parameters()) == []


def test_images_are_refused():
    encoder = RegionFeatures(3)
    for call in (encoder, encoder.trunk, encoder.transform):
        with pytest.raises(InputError, match=r"reads precomputed regions, not images.*Precomputed"):
            call(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="not images"):
        encoder(Features.from_pooled(torch.zeros(1, 3)))


def test_regions_of_another_width_are_refused():
    with pytest.raises(InputError, match="dim is 5, but the regions are 3 wide"):
        RegionFeatures(5)(regions())


@pytest.mark.parametrize(("dim", "drop"), [(0, 0.0), (3, -0.1), (3, 1.0)])
def test_arguments_out_of_range_are_refused(dim, drop):
    with pytest.raises(InputError, match=r"RegionFeatures: (dim|drop) is"):
        RegionFeatures(dim, drop=drop)
