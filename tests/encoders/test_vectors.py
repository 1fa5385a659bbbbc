"""Encoders that pass a source's vectors on, and the source Paired that has them."""

import numpy as np
import pytest
import torch

from itm_lightning import Matcher
from itm_lightning.data import ITMDataModule, Paired
from itm_lightning.encoders import BagOfWords, ImageVectors, TextVectors
from itm_lightning.errors import InputError
from itm_lightning.part import from_config, to_config
from itm_lightning.types import Features

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(3, 2, (7, 4)).astype(np.float32)
ARRAYS = {
    "image_train": IMAGES,
    "text_train": RANDOM.random((7, 3)),
    "label_train": np.array([2, 0, 1, 1, 0, 2, 0]),
    "image_test": IMAGES[:2],
    "text_test": RANDOM.random((2, 3)),
    "label_test": np.array([1, 0]),
    "categories": np.array(["art", "music", "war"]),
}


def written(folder, **changed):
    arrays = {k: v for k, v in {**ARRAYS, **changed}.items() if v is not None}
    np.savez(folder / "pairs.npz", **arrays)
    return Paired(str(folder))


def read_all(source, split):
    chosen = [(record, (0,)) for record in source.records(split)]
    return source.image_vectors(source.records(split)), source.text_vectors(chosen)


class TestPaired:
    def test_rows_and_classes_are_those_of_the_file(self, tmp_path):
        source = written(tmp_path)
        assert source.class_names == ("art", "music", "war")
        labels = [record.labels for record in source.records("train")]
        assert labels == [("war",), ("art",), ("music",), ("music",), ("art",), ("war",), ("art",)]
        images, texts = read_all(source, "test")
        np.testing.assert_allclose(images, IMAGES[:2])
        np.testing.assert_allclose(texts, ARRAYS["text_test"], rtol=1e-6)
        assert source.records("val") == ()
        assert source.records("train") is source.records("train")  # made once

    def test_val_is_held_out_of_train(self, tmp_path):
        written(tmp_path)
        source = Paired(str(tmp_path / "pairs.npz"), val=3)
        train, val = (read_all(source, split)[0].numpy() for split in ("train", "val"))
        assert len(val) == 3
        both = np.concatenate([train, val])
        np.testing.assert_allclose(both[np.lexsort(both.T)], IMAGES[np.lexsort(IMAGES.T)])

    def test_several_classes_a_pair(self, tmp_path):
        hot = np.eye(3, dtype=int)[ARRAYS["label_train"]]
        hot[0] = [1, 0, 1]
        source = written(tmp_path, label_train=hot, label_test=hot[:2])
        assert source.records("train")[0].labels == ("art", "war")

    def test_without_labels_there_are_no_classes(self, tmp_path):
        assert written(tmp_path, label_train=None, label_test=None).class_names == ()

    def test_matlab_files_under_their_own_names(self, tmp_path):
        savemat = pytest.importorskip("scipy.io").savemat
        names = {"image_train": "I_tr", "text_train": "T_tr", "label_train": "L_tr"}
        arrays = {new: ARRAYS[old] for old, new in names.items()}
        savemat(tmp_path / "raw.mat", arrays | {"categories": ARRAYS["categories"].astype(object)})
        source = Paired(str(tmp_path), arrays=names)
        assert source.class_names == ("art", "music", "war")
        np.testing.assert_allclose(read_all(source, "train")[0], IMAGES)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"text_test": None}, "no array 'text_test', only categories"),
            ({"text_test": np.zeros((2, 5))}, "vectors of test are not as wide"),
            ({"text_test": np.zeros((3, 3))}, "test .* has 2 image vectors, 3 text vectors"),
            ({"image_train": np.full((7, 4), np.nan)}, "image_train .* not finite in row 0"),
            ({"image_train": np.zeros(7)}, r"image_train .* float64 \(7,\); give numbers"),
            ({"label_test": None}, "labels of train alone"),
            ({"label_test": np.array(["a", "b"])}, "labels of test .* give whole numbers"),
            ({"image_train": np.array([{}], dtype=object)}, "pairs.npz cannot be read"),
        ],
    )
    def test_bad_files_are_refused(self, changed, message, tmp_path):
        with pytest.raises(InputError, match=message):
            written(tmp_path, **changed).records("train")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"val": 7}, "data.source.val is 7, but .* has 7"),
            ({"val": -1}, "Paired: val is -1"),
            ({"arrays": {"image": "x"}}, "data.source.arrays names 'image'"),
        ],
    )
    def test_bad_arguments_are_refused(self, arguments, message, tmp_path):
        written(tmp_path)
        with pytest.raises(InputError, match=message):
            Paired(str(tmp_path), **arguments).records("train")

    def test_a_folder_without_such_a_file_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"data.source.root must be a .npz or .mat file"):
            Paired(str(tmp_path)).records("train")


def test_vectors_are_standardised_by_the_training_split(tmp_path):
    source = written(tmp_path, text_train=np.hstack([ARRAYS["text_train"][:, :2], np.ones((7, 1))]))
    encoder = ImageVectors(dim=4, standardise=True)
    images, texts = read_all(source, "train")
    encoder.learn_statistics(images)
    given = Features.from_tokens(images[2:3].unsqueeze(1))
    expected = (IMAGES[2] - IMAGES.mean(axis=0)) / IMAGES.std(axis=0)
    np.testing.assert_allclose(encoder(given).pooled[0], expected, rtol=1e-5)
    assert encoder(given).tokens is None
    again = from_config(to_config(encoder))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(given).pooled, encoder(given).pooled)
    constant = TextVectors(dim=3, standardise=True)
    constant.learn_statistics(texts)
    assert not constant(Features.from_pooled(texts)).pooled[:, 2].any()


def test_vectors_pass_unchanged_by_default():
    features = TextVectors(dim=4)(Features.from_pooled(torch.from_numpy(IMAGES)))
    np.testing.assert_array_equal(features.pooled, IMAGES)


@pytest.mark.parametrize(
    ("encoder", "given", "message"),
    [
        (ImageVectors(dim=4), torch.zeros(1, 3, 8, 8), "ImageVectors reads vectors, not images"),
        (ImageVectors(dim=4), Features.from_tokens(torch.zeros(1, 2, 4)), "one vector an image"),
        (ImageVectors(dim=5), Features.from_tokens(torch.zeros(1, 1, 4)), "dim is 5, .* 4 wide"),
        (TextVectors(dim=4), ["a dog"], "TextVectors reads vectors, not texts"),
    ],
)
def test_what_is_no_vector_is_refused(encoder, given, message):
    with pytest.raises(InputError, match=message):
        encoder(given)


def test_batches_have_vectors_of_both_sides_and_labels(tmp_path):
    data = ITMDataModule(written(tmp_path), batch_size=2).connect(ImageVectors(dim=4))
    batch = next(iter(data.test_dataloader()))
    np.testing.assert_allclose(batch.images.tokens[:, 0], IMAGES[:2])
    np.testing.assert_allclose(batch.texts.pooled, ARRAYS["text_test"], rtol=1e-6)
    assert batch.labels.tolist() == [[False, True, False], [True, False, False]]
    matcher = Matcher(ImageVectors(dim=4), TextVectors(dim=3), dim=2)
    assert matcher(batch.images, batch.texts).shape == (2, 2)


def test_an_encoder_of_strings_cannot_read_vectors(tmp_path, run_fit):
    with pytest.raises(InputError, match="BagOfWords cannot read the texts of Paired"):
        run_fit(Matcher(ImageVectors(dim=4), BagOfWords(dim=8), dim=2), written(tmp_path))


@pytest.fixture
def run_fit(tmp_path):
    from pytorch_lightning import Trainer

    def fit(matcher, source):
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_progress_bar=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(matcher, ITMDataModule(source, batch_size=4))
        return trainer

    return fit


def test_a_fit_without_a_validation_split_learns_and_tests(tmp_path, run_fit):
    matcher = Matcher(
        ImageVectors(dim=4, standardise=True), TextVectors(dim=3, standardise=True), dim=2
    )
    before = matcher.image_projection.linear.weight.clone() if matcher.image_projection else None
    trainer = run_fit(matcher, written(tmp_path))
    assert not torch.equal(before, matcher.image_projection.linear.weight)
    assert matcher.image_encoder.deviation.min() > 1.0  # learnt of the training split
    with pytest.raises(InputError, match="split 'val' of Paired has no captions"):
        trainer.validate(matcher, trainer.datamodule, verbose=False)
    (scores,) = trainer.test(matcher, trainer.datamodule, verbose=False)
    assert scores["test/rsum"] > 0
