import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.errors import InputError
from itm_lightning.metrics import retrieval_recall
from itm_lightning.metrics.protocols import Coco1K
from itm_lightning.objectives import FeatureObjective, InfoNCE, Triplet, WeightedSum
from itm_lightning.pooling import AttentionPooling
from itm_lightning.similarity import Cosine, CrossAttention, Gaussian, Lorentz
from tests.made_up import made_up_features

SCENES = Scenes(train=8, val=6, test=6, pairs=0.5)


def matcher(similarity=None, **kwargs):
    image_encoder = TorchvisionCNN("squeezenet1_1", image_size=64, pooling=AttentionPooling(8))
    text_encoder = RecurrentText(hidden=8, word_dim=8)
    return Matcher(image_encoder, text_encoder, similarity or Cosine(), InfoNCE(), dim=8, **kwargs)


def trainer(folder, **kwargs):
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )


@pytest.mark.parametrize("head", [Cosine(), CrossAttention()], ids=lambda h: type(h).__name__)
def test_scores_are_images_by_texts_and_features_only_what_the_head_reads(head):
    model = matcher(head)
    model.text_encoder.learn_vocabulary(["a red ring", "two things"])
    images = torch.rand(2, 3, 64, 64)
    assert model(images, ["a red ring", "two things", "a"]).shape == (2, 3)
    features = model.encode_images(images)
    assert (features.tokens is None) == isinstance(head, Cosine)
    assert (features.pooled is None) == isinstance(head, CrossAttention)


@pytest.mark.parametrize("head", [Cosine(), CrossAttention()], ids=lambda h: type(h).__name__)
def test_logged_scores_are_those_of_the_whole_matrix(head, tmp_path):
    model, data = matcher(head), ITMDataModule(SCENES, batch_size=4)
    runner = trainer(tmp_path)
    runner.fit(model, datamodule=data)
    runner.test(model, datamodule=data, verbose=False)

    model.eval()
    batches = list(
        ITMDataModule(SCENES, batch_size=6).connect(model.image_encoder).test_dataloader()
    )
    with torch.no_grad():
        scores = model(batches[0].images, batches[0].texts)
    expected = retrieval_recall(scores, batches[0].image_ids, batches[0].text_image_ids)
    for key, value in expected.items():
        assert model.results[f"test/{key}"] == pytest.approx(float(value)), key
        assert float(runner.callback_metrics[f"test/{key}"]) == pytest.approx(float(value))

    own = batches[0].text_image_ids
    right = [
        bool(scores[image, j] > scores[image ^ 1, j])  # twins stand side by side
        for j, image in enumerate(own.tolist())
        if image < 2  # half of six photos, rounded down to whole pairs
    ]
    assert model.results["test/pairs_accuracy"] == pytest.approx(100 * sum(right) / len(right))


class Seeing(FeatureObjective):
    def loss(self, comparison):
        self.seen = comparison.head_images, comparison.head_texts
        return comparison.image_queries.scores.sum()


@pytest.mark.parametrize("head", [Cosine(), CrossAttention(), Lorentz(8), Gaussian(8)])
def test_objectives_on_features_see_what_the_head_compares(head, tmp_path):
    model = matcher(head)
    model.objective = WeightedSum([InfoNCE(), Seeing()])
    runner = trainer(tmp_path, limit_val_batches=0, max_steps=1)
    runner.fit(model, datamodule=ITMDataModule(SCENES, batch_size=4))
    images, texts = model.objective.objectives[1].seen
    kept = head.select(made_up_features(4, 5))
    assert type(images) is type(texts) is type(head.to_head_space(kept, kept)[0])
    for side in (images, texts):
        assert (side.tokens is None) == (kept.tokens is None)
        assert all(x.shape[-1] == 8 for x in (side.tokens, side.pooled) if x is not None)


def test_a_protocol_is_for_validate_and_test_and_fits_own_epochs_are_plain(tmp_path):
    model, data, runner = matcher(), ITMDataModule(SCENES, batch_size=4), trainer(tmp_path)
    model.protocol = Coco1K(folds=3, fold_size=2, texts_per_image=1)
    runner.fit(model, datamodule=data)
    assert model.evaluation.texts == 30
    runner.validate(model, datamodule=data, verbose=False)
    assert model.evaluation.texts == 6
    assert model.results["val/i2t_R@5"] == 100  # of two photos
    model.protocol = Coco1K()
    with pytest.raises(InputError, match="over 5000 images, but there are 6"):
        runner.fit(model, datamodule=data)  # before it trains, for the test that may follow


def test_a_checkpoint_of_a_python_run_is_enough(tmp_path):
    model = matcher()
    runner = trainer(tmp_path)
    runner.fit(model, datamodule=ITMDataModule(SCENES, batch_size=4))
    runner.save_checkpoint(tmp_path / "model.ckpt")
    again = Matcher.load_from_checkpoint(tmp_path / "model.ckpt")
    assert not again.training
    images, texts = torch.rand(2, 3, 64, 64), ["a red ring", "something unheard of"]
    with torch.no_grad():
        torch.testing.assert_close(again(images, texts), model.eval()(images, texts))


def test_a_part_is_replaced_while_loading(tmp_path):
    runner = trainer(tmp_path)
    runner.fit(matcher(), datamodule=ITMDataModule(SCENES, batch_size=4))
    runner.save_checkpoint(tmp_path / "model.ckpt")
    other = Matcher.load_from_checkpoint(tmp_path / "model.ckpt", similarity=CrossAttention())
    assert isinstance(other.similarity, CrossAttention)


def test_a_foreign_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"other\.ckpt was not written by itm-lightning"):
        Matcher.load_from_checkpoint(tmp_path / "other.ckpt")


def test_the_longest_prefix_decides_a_learning_rate():
    factors = {"image_encoder": 0.5, "image_encoder.network": 0.1}
    model = matcher(lr_factors=factors, optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0))
    optimizer = model.configure_optimizers()
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        expected = 1.0
        if name.startswith("image_encoder"):
            expected = 0.1 if name.startswith("image_encoder.network") else 0.5
        assert rate[parameter] == pytest.approx(expected), name


def test_frozen_parameters_are_not_optimised():
    image_encoder = TorchvisionCNN("squeezenet1_1", image_size=64, trainable=False)
    model = Matcher(image_encoder, RecurrentText(hidden=8), Cosine(), Triplet(), dim=8)
    optimised = {p for group in model.configure_optimizers().param_groups for p in group["params"]}
    assert optimised
    assert not optimised & set(image_encoder.parameters())


def test_the_same_image_twice_in_a_batch_is_no_negative():
    model = matcher()
    ids = torch.tensor([3, 3])
    scores = torch.tensor([[0.1, 0.9], [0.9, 0.1]])  # the off-diagonal pairs are right too
    assert float(model.objective(scores, ids, ids).detach()) == pytest.approx(0.0, abs=1e-6)
    assert model.objective(scores, torch.tensor([3, 4]), torch.tensor([3, 4])).item() > 1


def test_bare_dataloaders_are_refused(tmp_path):
    data = ITMDataModule(SCENES, batch_size=4).connect(matcher().image_encoder)
    with pytest.raises(InputError, match="datamodule="):
        trainer(tmp_path).fit(matcher(), data.train_dataloader())


@pytest.mark.parametrize(
    "average",
    [
        lambda: EMAWeightAveraging(decay=0.5),
        lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1),
    ],
    ids=["EMA", "SWA"],
)
def test_weights_are_averaged_of_encoders_that_learn_their_words(tmp_path, average):
    model, data = matcher(), ITMDataModule(SCENES, batch_size=4)
    runner = trainer(tmp_path, callbacks=[average()])
    runner.fit_loop.max_epochs = 2
    runner.fit(model, datamodule=data)
    runner.save_checkpoint(tmp_path / "model.ckpt")
    again = Matcher.load_from_checkpoint(tmp_path / "model.ckpt")
    assert again.text_encoder.vocabulary.words == model.text_encoder.vocabulary.words
    torch.testing.assert_close(again.state_dict(), model.state_dict())
