from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import ImageSource, Record, Scenes
from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.errors import InputError
from itm_lightning.objectives import InfoNCE
from itm_lightning.similarity import Cosine
from itm_lightning.types import Features


def matcher(**encoder):
    image_encoder = TorchvisionCNN("squeezenet1_1", image_size=64, **encoder)
    return Matcher(image_encoder, RecurrentText(hidden=8), Cosine(), InfoNCE(), dim=8)


@pytest.fixture
def data():
    return ITMDataModule(Scenes(train=5, val=3, test=4, pairs=0), batch_size=2).connect(
        matcher().image_encoder
    )


def test_training_batches_pair_each_image_with_one_text(data):
    batches = list(data.train_dataloader())
    assert len(batches) == 5 * 5 // 2  # the odd pair waits
    for batch in batches:
        assert batch.images.shape == (2, 3, 64, 64)
        assert torch.equal(batch.image_ids, batch.text_image_ids)
        for text, text_id in zip(batch.texts, batch.text_ids.tolist(), strict=True):
            assert text == data.train_texts()[text_id]


def test_evaluation_batches_hold_each_image_once_with_all_texts(data):
    batches = list(data.val_dataloader())
    assert torch.cat([b.image_ids for b in batches]).tolist() == [0, 1, 2]
    assert torch.cat([b.text_image_ids for b in batches]).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert torch.cat([b.text_ids for b in batches]).tolist() == list(range(15))
    texts = [text for record in data.records("val") for text in record.texts]
    assert [c for b in batches for c in b.texts] == texts


def test_a_split_smaller_than_a_batch_is_still_trained_on():
    data = ITMDataModule(Scenes(train=1, val=1, test=0, pairs=0), batch_size=64).connect(
        matcher().image_encoder
    )
    (batch,) = data.train_dataloader()
    assert len(batch.texts) == 5


def test_worker_processes_give_the_same_batches(data):
    parallel = ITMDataModule(data.source, batch_size=2, num_workers=2).connect(
        matcher().image_encoder
    )
    for here, there in zip(data.test_dataloader(), parallel.test_dataloader(), strict=True):
        assert torch.equal(here.images, there.images)
        assert here.texts == there.texts


def test_predict_runs_over_test_or_else_val():
    assert ITMDataModule(Scenes(train=1, val=1, test=1)).predict_split == "test"
    assert ITMDataModule(Scenes(train=1, val=1, test=0)).predict_split == "val"


def test_an_empty_split_is_refused_and_the_others_named():
    data = ITMDataModule(Scenes(train=3, val=0, test=2))
    with pytest.raises(InputError, match=r"'val' of Scenes has no captions.*train, test"):
        data.setup("fit")


def test_without_an_encoder_there_is_no_transform():
    with pytest.raises(InputError, match=r"connect\(image_encoder\)"):
        ITMDataModule(Scenes(train=1, val=1, test=1)).val_dataloader()


def test_a_batch_size_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"batch_size is 0"):
        ITMDataModule(Scenes(), batch_size=0)


def fit(model, data, epochs=2):
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return trainer


class Counting(nn.Module):
    """Counts the photos that go through a trunk."""

    def __init__(self, network):
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, pixels):
        self.images += len(pixels)
        return self.network(pixels)


@pytest.mark.parametrize(
    ("encoder", "views", "images_seen"),
    [
        ({"trainable": False}, 0, 6 + 4),  # once
        ({"trainable": False, "augment": True}, 3, 3 * 6 + 4),  # three views of each, once
        ({"trainable": False, "augment": True}, 0, 2 * 30 + 4),  # each of 2 × 30 pairs anew
        ({"trainable": True}, 0, 2 * 30 + 3 * 4),  # pairs; the sanity check and 2 validations
    ],
    ids=["frozen", "views", "augmented", "trained"],
)
def test_how_many_images_go_through_the_trunk(encoder, views, images_seen):
    model = matcher(**encoder)
    model.image_encoder.network = counting = Counting(model.image_encoder.network)
    source = Scenes(train=6, val=4, test=0, pairs=0)
    fit(model, ITMDataModule(source, batch_size=5, augmented_views=views))
    assert counting.images == images_seen


def test_views_differ_and_are_taken_at_random():
    model = matcher(trainable=False, augment=True)
    data = ITMDataModule(Scenes(train=2, val=1, test=0, pairs=0), batch_size=10, augmented_views=2)
    fit(model, data, epochs=1)
    seen, loader = set(), data.train_dataloader()
    for epoch in range(6):
        loader.batch_sampler.sampler.set_epoch(epoch)
        (batch,) = loader
        seen |= {tuple(tokens.flatten().tolist()) for tokens in batch.images.tokens}
    assert len(seen) == 2 * 2


def test_views_follow_from_the_seed():
    model = matcher(trainable=False, augment=True)

    def tokens(seed, workers=0):
        torch.manual_seed(seed)
        source = Scenes(train=5, val=1, test=0, pairs=0)
        data = ITMDataModule(source, 5, workers, augmented_views=2)
        torch.rand(3)  # what else draws, changes nothing
        fit(model, data, epochs=1)
        return data._frozen["train"].tokens

    first = tokens(1)
    assert torch.equal(tokens(1, workers=1), first)
    assert not torch.equal(tokens(2), first)


def test_tokens_of_a_frozen_trunk_are_those_of_the_images():
    model = matcher(trainable=False)
    data = ITMDataModule(Scenes(train=6, val=4, test=0, pairs=0), batch_size=5)
    fit(model, data, epochs=1)
    frozen = next(iter(data.val_dataloader())).images
    assert isinstance(frozen, Features)
    pixels = next(
        iter(ITMDataModule(data.source, 5).connect(model.image_encoder).val_dataloader())
    ).images
    torch.testing.assert_close(
        frozen.tokens.float(), model.image_encoder.trunk(pixels), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("how", [{"one_text": True}, {"bucketed": True}], ids=str)
def test_how_texts_are_sampled_reaches_the_batches(how):
    data = ITMDataModule(Scenes(train=6, val=1, test=0, pairs=0), batch_size=3, **how)
    model = matcher()
    data.connect(model.image_encoder)
    pairs = 6 if "one_text" in how else 30
    assert len(data.train_dataloader()) == pairs // 3
    seen = [number for batch in data.train_dataloader() for number in batch.text_ids.tolist()]
    assert len(set(seen)) == pairs
    fit(model, data, epochs=1)


@pytest.mark.parametrize("flag", ["one_text", "bucketed"])
def test_a_stream_keeps_its_own_order(flag):
    class Stream(StreamedSource):
        records = verify = encoded = image = None

    with pytest.raises(InputError, match=r"Stream is a stream.*data\.one_text and"):
        ITMDataModule(Stream(), **{flag: True})


# -- images without texts ------------------------------------------------------------------------


class WithDistractors(ImageSource):
    """Images of one grey each; every third has no texts, the others one or two."""

    def records(self, split):
        count = {"train": 7, "val": 8, "test": 0}[split]
        return [self._record(split, number) for number in range(count)]

    def image(self, record):
        return Image.new("RGB", (64, 64), (25 * (record.image_id - 10),) * 3)

    def _record(self, split, number):
        texts = tuple(f"grey {number} {k}" for k in range(number % 3))
        ids = tuple(3 * number + k for k in range(number % 3))
        return Record(10 + number, texts, ids, f"{split}/{number}")


def test_training_leaves_images_without_texts_out_and_evaluation_keeps_them():
    data = ITMDataModule(WithDistractors(), batch_size=1).connect(matcher().image_encoder)
    assert [record.image_id for record in data.records("train")] == [11, 12, 14, 15]
    trained = {int(number) for batch in data.train_dataloader() for number in batch.image_ids}
    assert trained == {11, 12, 14, 15}
    assert not data.has_split("test")
    assert data.ground_truth("val").texts_of_image == {
        **{10: (), 11: (3,), 12: (6, 7), 13: (), 14: (12,), 15: (15, 16), 16: (), 17: (21,)}
    }
    batches = list(data.val_dataloader())
    assert [int(batch.image_ids) for batch in batches] == [*range(10, 18)]
    assert [len(batch.texts) for batch in batches] == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_distractors_are_ranked_and_ask_for_nothing(batch_size):
    model, source = matcher(), WithDistractors()
    fit(model, ITMDataModule(source, batch_size=3), epochs=1)
    data = ITMDataModule(source, batch_size=batch_size)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.validate(model, datamodule=data, verbose=False)
    model.eval()
    records = source.records("val")
    images = [source.image(record) for record in records]
    texts = [text for record in records for text in record.texts]
    image_of_text = [row for row, record in enumerate(records) for _ in record.texts]
    with torch.no_grad():
        scores = model(images, texts)
    # a tie counts against the model
    i2t = [
        min(
            int((scores[row] >= scores[row, text]).sum())
            for text, owner in enumerate(image_of_text)
            if owner == row
        )
        for row in sorted(set(image_of_text))
    ]
    t2i = [
        int((scores[:, text] >= scores[row, text]).sum()) for text, row in enumerate(image_of_text)
    ]
    for direction, ranks in (("i2t", i2t), ("t2i", t2i)):
        expected = 100 * sum(rank <= 5 for rank in ranks) / len(ranks)
        assert model.results[f"val/{direction}_R@5"] == pytest.approx(expected)


# -- labels --------------------------------------------------------------------------------------


def test_labels_are_rows_of_an_image_and_columns_of_a_class_name(data):
    names = data.class_names
    assert data.source.class_names == names
    assert {"red", "star"} < set(names)
    for split, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
        labels_of = {record.image_id: set(record.labels) for record in data.records(split)}
        for batch in loader:
            assert batch.labels.dtype == torch.bool
            assert batch.labels.shape == (len(batch.image_ids), len(names))
            for row, number in zip(batch.labels, batch.image_ids.tolist(), strict=True):
                assert {n for n, has in zip(names, row, strict=True) if has} == labels_of[number]


def test_batches_of_a_frozen_trunk_have_labels():
    data = ITMDataModule(Scenes(train=4, val=2, test=0, pairs=0), batch_size=4)
    fit(matcher(trainable=False), data, epochs=1)
    batch = next(iter(data.val_dataloader()))
    assert isinstance(batch.images, Features)
    assert batch.labels.sum(dim=1).tolist() == [len(r.labels) for r in data.records("val")]


def test_a_source_without_classes_has_labels_of_no_column():
    data = ITMDataModule(WithDistractors(), batch_size=2).connect(matcher().image_encoder)
    assert next(iter(data.train_dataloader())).labels.shape == (2, 0)


def test_a_label_that_is_no_class_name_is_named_with_its_record():
    class Misspelt(WithDistractors):
        class_names = ("grey", "black")

        def _record(self, split, number):
            labels = ("grey", "balck") if number == 4 else ("grey",)
            return replace(super()._record(split, number), labels=labels)

    with pytest.raises(InputError, match=r"photo val/4 of Misspelt has the label 'balck'"):
        ITMDataModule(Misspelt()).records("val")
