import io
import pickle

import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from PIL import Image
from torch.utils.data import DataLoader

from itm_lightning.data import Flickr30k, Karpathy, Record
from itm_lightning.data.loading import stream as module
from itm_lightning.data.loading.decoding import DecodedImages, MemberTransforms
from itm_lightning.data.loading.loaders import Loading, evaluation_loader, training_loader
from itm_lightning.data.loading.stream import StreamDataset, StreamedSource, shuffled
from itm_lightning.errors import InputError
from tests import layouts


class Numbers(StreamedSource):
    """Photos of one colour, the record's number; notes which it was asked for."""

    def __init__(self, n=23):
        self.n, self.asked = n, []

    def records(self, split):
        return [
            Record(
                i,
                tuple(f"{i} {k}" for k in range(1 + i % 3)),
                tuple(range(9 * i, 9 * i + 3)),
                f"row-{i}",
            )
            for i in range(self.n)
        ]

    def image(self, record):
        raise AssertionError("a stream is not read at random")

    def encoded(self, record):
        self.asked.append(record.image_id)
        file = io.BytesIO()
        Image.new("RGB", (1, 1), (record.image_id, 0, 0)).save(file, "PNG")
        return file.getvalue()


def red(image):
    return torch.tensor([image.getpixel((0, 0))[0]])


def reds(image):
    return red(image).repeat(3, 1, 1)


def dataset(train, batch_size=4, source=None, seed=0):
    source = source or Numbers()
    images = DecodedImages(source, red)
    return StreamDataset(source.records(""), images, batch_size, seed if train else None)


def loaded(data, workers, drop_last=False):
    def listed(samples):
        return [(s.record.image_id, s.texts, int(s.image)) for s in samples]

    loader = DataLoader(data, 4, num_workers=workers, collate_fn=listed, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


PAIRS = sorted((i, (k,), i) for i in range(23) for k in range(1 + i % 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_keeps_the_order_of_the_rows(workers):
    batches = loaded(dataset(train=False), workers)
    found = [sample for batch in batches for sample in batch]
    assert found == [(i, tuple(range(1 + i % 3)), i) for i in range(23)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("train", [False, True])
def test_workers_share_the_samples_and_fill_their_batches(train, workers):
    data = dataset(train)
    batches = loaded(data, workers)
    found = [sample for batch in batches for sample in batch]
    expected = PAIRS if train else [(i, tuple(range(1 + i % 3)), i) for i in range(23)]
    assert sorted(found) == expected
    assert len(batches) == -(-len(expected) // 4)
    assert sorted(map(len, batches), reverse=True)[:-1] == [4] * (len(batches) - 1)


def test_only_the_last_batch_is_dropped():
    batches = loaded(dataset(train=True), workers=2, drop_last=True)
    assert [len(batch) for batch in batches] == [4] * (len(PAIRS) // 4)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_have_as_many_samples_each_and_all_together(monkeypatch, train, ranks):
    monkeypatch.setattr(module, "world_size", lambda: ranks)
    found = []
    lengths = set()
    for number in range(ranks):
        monkeypatch.setattr(module, "rank", lambda number=number: number)
        data = dataset(train)
        share = [(s.record.image_id, s.texts) for s in data]
        assert len(share) == len(data)
        lengths.add(len(share))
        found += share
    assert len(lengths) == 1
    expected = (
        {(i, c) for i, c, _ in PAIRS}
        if train
        else {(i, tuple(range(1 + i % 3))) for i in range(23)}
    )
    assert set(found) == expected
    assert len(found) - len(expected) < ranks  # the last one again, to make them even


def test_epochs_are_shuffled_anew_and_by_the_seed():
    def epochs(seed):
        data = dataset(train=True, seed=seed)
        for epoch in range(2):
            data.set_epoch(epoch)
            yield [(s.record.image_id, s.texts) for s in data]

    first, second = epochs(3)
    assert first != second
    assert sorted(first) == sorted(second)
    assert list(epochs(3)) == [first, second]
    assert list(epochs(4)) != [first, second]


def anyhow(image):
    return torch.rand(1)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("images", [5, 23])
def test_an_epoch_goes_on_in_its_midst(workers, images):
    source = Numbers(images)
    read = DecodedImages(source, anyhow)
    loading = Loading(4, workers)

    def seen(loader, epoch):
        _set_sampler_epoch(loader, epoch)
        return [(b.text_ids.tolist(), b.images.tolist()) for b in loader]

    whole = training_loader(source.records(""), read, loading, seed=7)
    expected = [seen(whole, epoch) for epoch in range(2)]
    assert expected[0] != expected[1]
    assert [len(epoch) for epoch in expected] == [len(whole)] * 2
    resumed = training_loader(source.records(""), read, loading, seed=7)
    for skipped in range(len(whole) + 1):
        resumed.load_state_dict({"batches": skipped})
        assert seen(resumed, 1) == expected[1][skipped:]
    assert seen(resumed, 0) == expected[0]


def test_what_is_skipped_is_not_decoded():
    data = dataset(train=True)
    data.transform = lambda image: asked.append(image)
    asked = []
    data.skip(10)
    assert len(list(data)) == len(asked) == len(PAIRS) - 40


def test_a_image_is_read_once_for_all_of_its_texts():
    source = Numbers()
    list(dataset(train=True, source=source))
    assert source.asked == list(range(23))


def test_the_buffer_bounds_how_far_an_item_comes_forward():
    for size in (1, 5):
        order = list(shuffled(range(50), torch.Generator(), size))
        assert sorted(order) == list(range(50))
        assert all(item - place <= size for place, item in enumerate(order))
    assert list(shuffled(range(50), torch.Generator(), 50)) != list(range(50))
    assert list(shuffled([], torch.Generator(), 5)) == []


def test_a_shuffle_is_fair_where_all_fits_in():
    generator = torch.Generator()
    firsts = torch.tensor([next(shuffled(range(4), generator, 10)) for _ in range(2000)])
    counts = torch.bincount(firsts, minlength=4).double() / 2000
    torch.testing.assert_close(counts, torch.full((4,), 0.25).double(), atol=0.04, rtol=0)


@pytest.mark.usefixtures("hub_cache")
def test_a_parquet_stream_is_what_its_files_hold(karpathy_root, tmp_path):
    arguments = layouts.flickr30k(karpathy_root, tmp_path / "parquet")
    source = Flickr30k(**arguments, streaming=True)
    assert isinstance(source, StreamedSource)
    plain = Karpathy(str(karpathy_root))
    there = pickle.loads(pickle.dumps(source))  # as a loader's process gets it
    data = StreamDataset(there.records("train"), DecodedImages(there, lambda p: p), 4)
    for sample, record in zip(data, plain.records("train"), strict=True):
        assert sample.record.texts == record.texts
        assert sample.image.tobytes() == plain.image(record).tobytes()


def test_a_image_that_does_not_decode_is_named():
    class Broken(Numbers):
        def encoded(self, record):
            return super().encoded(record)[:45]

    with pytest.raises(InputError, match=r"photo row-0 of Broken does not decode"):
        list(dataset(train=False, source=Broken()))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_reads_each_image_once_for_all_members_of_an_ensemble(workers):
    source = Numbers(n=5)
    read = DecodedImages(source, MemberTransforms([red, reds, red]))
    (batch,) = evaluation_loader(source.records(""), read, Loading(8, workers))
    one, other, same = batch.images.parts
    assert one.flatten().tolist() == [0, 1, 2, 3, 4]
    assert other.equal(one[:, :, None, None].expand(5, 3, 1, 1))
    assert same is one
    if not workers:  # else another process notes it
        assert source.asked == [0, 1, 2, 3, 4]
