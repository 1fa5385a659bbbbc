"""Which pairs an epoch takes, and in which batches: whatever the processes and devices."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader, RandomSampler

from itm_lightning.data import Record, RegionSource
from itm_lightning.data.loading.loaders import Loading, training_loader
from itm_lightning.data.loading.samples import OneTextDataset, PairDataset
from itm_lightning.data.loading.sampling import buckets, training_batches

COUNTS = (2, 5, 1, 3, 4, 2, 5, 3)  # captions of each photo


def records():
    made, first = [], 0
    for image, count in enumerate(COUNTS):
        ids = tuple(range(first, first + count))
        texts = tuple("word " * (1 + number * 7 % 10) for number in ids)
        made.append(Record(10 * image, texts, ids, str(image)))
        first += count
    return made


RECORDS = records()
LENGTHS = [len(text.split()) for record in RECORDS for text in record.texts]
PAIRS = sum(COUNTS)


class Numbered(RegionSource):
    """Regions that say whose they are."""

    def records(self, split):
        return RECORDS

    def verify(self, record):
        pass

    def regions(self, record):
        return torch.full((1 + record.image_id % 3, 2), float(record.image_id))


def begun(loader, epoch):
    """The loader's batches of an epoch, told as Lightning tells it."""
    _set_sampler_epoch(loader, epoch)
    return loader


def epochs(number, batch_size=4, workers=0, seed=0, **how):
    """Text ids of the batches of several epochs."""
    loading = Loading(batch_size, workers)
    loader = training_loader(RECORDS, Numbered().batch, loading, seed, **how)
    return [
        [check(batch).text_ids.tolist() for batch in begun(loader, epoch)]
        for epoch in range(number)
    ]


def check(batch):
    """Photo, caption and ids belong together."""
    assert torch.equal(batch.image_ids, batch.text_image_ids)
    texts = {k: c for r in RECORDS for k, c in zip(r.text_ids, r.texts, strict=True)}
    assert batch.texts == [texts[number] for number in batch.text_ids.tolist()]
    assert torch.equal(batch.images.tokens[:, 0, 0], batch.image_ids.float())
    assert batch.images.mask.sum(dim=1).tolist() == [1 + i % 3 for i in batch.image_ids.tolist()]
    assert batch.images.tokens[~batch.images.mask].abs().sum() == 0
    return batch


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bucketed", [False, True])
class TestEpochs:
    def test_all_pairs_come_once(self, workers, bucketed):
        for epoch in epochs(2, batch_size=5, workers=workers, bucketed=bucketed):
            assert [len(batch) for batch in epoch] == [5] * 5
            assert sorted(joined(epoch)) == list(range(PAIRS))

    def test_one_text_a_image_drawn_anew(self, workers, bucketed):
        how = {"workers": workers, "bucketed": bucketed, "one_text": True}
        found = epochs(60, batch_size=4, **how)
        for epoch in found:
            assert [len(batch) for batch in epoch] == [4, 4]
            taken = sorted(joined(epoch))
            assert [image_of(number) for number in taken] == list(range(len(COUNTS)))
        assert set(joined(joined(found))) == set(range(PAIRS))  # each has its turn

    def test_the_seed_decides(self, workers, bucketed):
        how = {"workers": workers, "bucketed": bucketed, "one_text": True}
        first = epochs(3, **how)
        torch.rand(1)  # what else draws, changes nothing
        assert epochs(3, **how) == first
        assert epochs(3, seed=2, **how) != first
        assert first[0] != first[1]

    def test_an_epoch_goes_on_in_its_midst(self, workers, bucketed):
        how = {"bucketed": bucketed, "one_text": True}
        loading = Loading(2, workers)
        whole, resumed = (
            training_loader(RECORDS, Numbered().batch, loading, 0, **how) for _ in range(2)
        )
        expected = [[b.text_ids.tolist() for b in begun(whole, epoch)] for epoch in range(2)]
        begun(whole, 0)
        for number, _ in zip(range(1, 4), whole, strict=False):
            state = whole.state_dict()  # as many as were handed out: workers are ahead
            resumed.load_state_dict(state)
            rest = [batch.text_ids.tolist() for batch in begun(resumed, 0)]
            assert rest == expected[0][number:]
        assert [batch.text_ids.tolist() for batch in begun(resumed, 1)] == expected[1]


def joined(lists):
    return list(itertools.chain(*lists))


def image_of(pair):
    return [image for image, count in enumerate(COUNTS) for _ in range(count)][pair]


def test_processes_change_no_batch():
    assert epochs(1, workers=2, one_text=True) == epochs(1, one_text=True)


class Augmented(Numbered):
    """Regions that differ each time, of all the generators there are."""

    def regions(self, record):
        return torch.tensor([[torch.rand(()), np.random.rand()], [random.random(), 0.0]])


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_follows_from_seed_and_epoch(workers):
    def seen(epoch, seed=5, skipped=0, workers=workers):
        loading = Loading(4, workers)
        loader = training_loader(RECORDS, Augmented().batch, loading, seed)
        loader.load_state_dict({"batches": skipped})
        return [batch.images.tokens for batch in begun(loader, epoch)]

    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    first = seen(0)
    drawn = torch.stack(first)
    assert drawn.unique().numel() == 1 + 3 * PAIRS // 4 * 4  # none twice, and the zeros
    assert torch.equal(drawn, torch.stack(seen(0, workers=0)))
    assert torch.equal(drawn[2:], torch.stack(seen(0, skipped=2)))
    assert not torch.equal(drawn, torch.stack(seen(1)))
    assert not torch.equal(drawn, torch.stack(seen(0, seed=6)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_texts_of_each_image_are_drawn_evenly():
    dataset = OneTextDataset(RECORDS, Numbered().batch)
    generator, images = torch.Generator(), torch.arange(len(COUNTS))
    draws = torch.cat([dataset.draw(images, generator) for _ in range(6000)])
    drawn = draws.bincount(minlength=PAIRS)
    expected = [1 / count for count in COUNTS for _ in range(count)]
    torch.testing.assert_close(drawn / 6000, torch.tensor(expected), rtol=0, atol=0.03)


class TestBuckets:
    def test_equals_sorting_window_by_window(self):
        items, lengths = torch.randperm(50), torch.randint(3, 20, (50,))
        found = buckets(items, lengths, 4, torch.Generator(), window=3)
        expected = []
        for start in range(0, 50, 12):
            window = list(range(start, min(start + 12, 50)))
            window.sort(key=lambda place: lengths[place])
            expected += [items[window[k : k + 4]].tolist() for k in range(0, len(window), 4)]
        assert sorted(batch.tolist() for batch in found) == sorted(expected)
        assert [batch.tolist() for batch in found] != expected  # shuffled

    def test_batches_of_an_epoch_need_little_padding(self):
        spread = [max(part) - min(part) for part in map(lengths_of, epochs(1, bucketed=True)[0])]
        plain = [max(part) - min(part) for part in map(lengths_of, epochs(1)[0])]
        assert sum(spread) < sum(plain) / 2


def lengths_of(batch):
    return [LENGTHS[pair] for pair in batch]


def test_a_remainder_is_random_though_batches_are_sorted():
    left = [set(range(PAIRS)) - set(joined(epoch)) for epoch in epochs(30, 4, bucketed=True)]
    assert {len(pairs) for pairs in left} == {PAIRS % 4}
    assert len({LENGTHS[pair] for pairs in left for pair in pairs}) > 3


def test_fewer_pairs_than_a_batch_are_still_a_batch():
    ((batch,),) = epochs(1, batch_size=64)
    assert len(batch) == PAIRS


@pytest.mark.parametrize("dataset", [PairDataset, OneTextDataset])
@pytest.mark.parametrize("bucketed", [False, True])
def test_lightning_deals_the_batches_to_devices(dataset, bucketed):
    """Each gets as many, none the same, and together all: by Lightning's own code."""
    from lightning_fabric.utilities.data import _replace_dunder_methods
    from pytorch_lightning.overrides.distributed import DistributedSampler
    from pytorch_lightning.utilities.data import _update_dataloader
    from torch.utils.data import BatchSampler

    data = dataset(RECORDS, Numbered().batch)
    with _replace_dunder_methods(DataLoader, "dataset"), _replace_dunder_methods(BatchSampler):
        loader = DataLoader(data, batch_sampler=training_batches(data, 2, bucketed, 0))
    dealt = []
    for rank in range(2):
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, shuffle=True, seed=0)
        batches = [batch.rows for batch in _update_dataloader(loader, sampler).batch_sampler]
        dealt.append(joined(batches))
        assert {len(batch) for batch in batches} == {2}
    assert len(dealt[0]) == len(dealt[1])
    assert not set(dealt[0]) & set(dealt[1])
    images = {image_of(pair) for share in dealt for pair in share}
    assert images == set(range(len(COUNTS)))


def test_batches_are_full_on_every_device(monkeypatch):
    data = PairDataset(RECORDS, Numbered().batch)
    assert training_batches(data, 10, bucketed=False, seed=0).drop_last
    monkeypatch.setattr("itm_lightning.data.loading.sampling.world_size", lambda: 3)
    assert not training_batches(data, 10, bucketed=False, seed=0).drop_last  # 8 pairs each


def test_a_loader_is_told_of_the_gpu():
    loader = training_loader(RECORDS, Numbered().batch, Loading(4, 2, on_gpu=True), 0)
    assert (loader.pin_memory, loader.persistent_workers, loader.num_workers) == (True, True, 2)


def test_datasets_travel_to_processes_that_are_not_forked():
    dataset = OneTextDataset(RECORDS, Numbered().batch)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.__getitems__([3, 4]).text_ids, torch.tensor([3, 4]))
    assert isinstance(training_batches(again, 2, bucketed=False, seed=0).sampler, RandomSampler)
