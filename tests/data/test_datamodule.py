import pytest
import torch
from torch import nn

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
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
    with pytest.raises(InputError, match=r"data\.batch_size is 0"):
        ITMDataModule(Scenes(), batch_size=0)


def fit(model, data, epochs=2):
    import pytorch_lightning as pl

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
    data = ITMDataModule(Scenes(train=1, val=1, test=0, pairs=0), batch_size=5, augmented_views=2)
    fit(model, data, epochs=1)
    seen, loader = set(), data.train_dataloader()
    for epoch in range(6):
        loader.batch_sampler.sampler.set_epoch(epoch)
        (batch,) = loader
        seen |= {tuple(tokens.flatten().tolist()) for tokens in batch.images.tokens}
    assert len(seen) == 2


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
