import pytest
import torch

from itm_lightning.types import Batch, Features, masked_mean


def test_from_tokens_pools_the_mean_over_real_tokens_alone():
    tokens = torch.tensor([[[1.0, 3.0], [3.0, 5.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert Features.from_tokens(tokens, mask).pooled.tolist() == [[2.0, 4.0]]


def test_from_tokens_without_mask_takes_all():
    features = Features.from_tokens(torch.ones(2, 3, 4))
    assert features.mask.all()
    assert features.mask.shape == (2, 3)


def test_a_row_without_tokens_has_a_zero_mean():
    mean = masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool))
    assert mean.tolist() == [[0.0, 0.0, 0.0]]


def test_from_pooled_has_no_tokens():
    features = Features.from_pooled(torch.ones(2, 3))
    assert features.tokens is None
    assert features.mask is None
    assert len(features) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": None, "mask": None, "pooled": None},
        {"tokens": torch.ones(1, 2, 3), "mask": None, "pooled": None},
        {"tokens": None, "mask": torch.ones(1, 2, dtype=torch.bool), "pooled": torch.ones(1, 3)},
    ],
)
def test_incomplete_features_are_refused(fields):
    with pytest.raises(ValueError, match="Features"):
        Features(**fields)


def test_rows_are_sliced_in_every_field():
    features = Features.from_tokens(torch.arange(12.0).view(3, 2, 2))
    part = features[1:]
    assert len(part) == 2
    assert torch.equal(part.tokens, features.tokens[1:])
    assert torch.equal(part.pooled, features.pooled[1:])


def test_cat_pads_tokens_to_the_longest():
    short = Features.from_tokens(torch.ones(1, 2, 3))
    long = Features.from_tokens(torch.ones(2, 4, 3))
    joined = Features.cat([short, long])
    assert joined.tokens.shape == (3, 4, 3)
    assert joined.mask.sum(dim=1).tolist() == [2, 4, 4]
    assert torch.equal(joined.pooled, torch.ones(3, 3))


def test_trim_drops_columns_that_are_padding_everywhere():
    mask = torch.tensor([[True, False, False, False], [True, True, False, False]])
    trimmed = Features.from_tokens(torch.ones(2, 4, 3), mask).trim()
    assert trimmed.tokens.shape == (2, 2, 3)
    assert trimmed.mask.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("as_tokens", [False, True])
def test_a_batch_moves_its_tensors_and_keeps_its_strings(as_tokens):
    images = torch.zeros(1, 3, 8, 8)
    if as_tokens:
        images = Features(torch.zeros(1, 4, 8), torch.ones(1, 4, dtype=torch.bool), None)
    ids = torch.tensor([7])
    labels = torch.ones(1, 3, dtype=torch.bool)
    batch = Batch(images, ["a dog"], ids, ids, ids, labels).to(torch.device("meta"))
    assert batch.images.device.type == "meta"
    assert batch.image_ids.device.type == "meta"
    assert batch.texts == ["a dog"]
    assert batch.labels.device.type == "meta"


def test_a_batch_pins_and_moves_its_tensors(monkeypatch):
    pinned, moved = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    features = Features.from_tokens(torch.ones(2, 3, 4))
    ids = torch.tensor([1, 2])
    labels = torch.ones(2, 3, dtype=torch.bool)
    batch = Batch(features, ["a", "b"], ids, ids, ids, labels).pin_memory()
    assert len(pinned) == 3 + 4  # tokens, mask, pooled; and the ids and labels
    assert batch.texts == ["a", "b"]
    assert batch.labels.equal(labels)

    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, device, non_blocking: moved.append(non_blocking) or self
    )
    batch.to(torch.device("cpu"), non_blocking=True)
    assert moved == [True] * 7
