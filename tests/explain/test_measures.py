"""Explanations measured: maps that are right, even or wrong get the numbers that they deserve."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from itm_lightning.data import ITMDataModule, Precomputed, Scenes
from itm_lightning.data.sources.scenes.render import GRAIN
from itm_lightning.data.sources.scenes.world import COLOURS
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.encoders.base import Grid
from itm_lightning.encoders.transforms import ToPixels
from itm_lightning.errors import InputError
from itm_lightning.explain import measures
from itm_lightning.explain.definitions import MEASURES, definitions, picture, table
from itm_lightning.explain.explanation import Explanation
from itm_lightning.explain.faithfulness import scores_of_pixels
from itm_lightning.explain.measures import measure_explanations
from itm_lightning.explain.pairs import explained_records
from itm_lightning.matcher import Matcher
from itm_lightning.similarity import CrossAttention

CELLS = 32  # a side


@pytest.fixture(scope="module")
def data():
    return ITMDataModule(Scenes(train=24, val=12, test=1, pairs=0.5))


@pytest.fixture(scope="module")
def matcher(data):
    torch.manual_seed(0)
    text_encoder = RecurrentText(hidden=8, word_dim=8)
    text_encoder.learn_vocabulary(data.train_texts())
    image_encoder = TorchvisionCNN("squeezenet1_1", image_size=64)
    matcher = Matcher(image_encoder, text_encoder, CrossAttention(), dim=16).eval()
    data.connect(image_encoder)
    return matcher


def explain_with(map_of):
    """An ``explain`` whose map of a word in an image ``(64, 64, 3)`` is made by the function."""

    def explain(matcher, image, text, method):
        words = text.replace(",", "").replace(":", "").split()
        pixels = np.asarray(image).astype(int)
        fine = torch.stack([torch.as_tensor(map_of(pixels, word)).double() for word in words])
        maps = torch.nn.functional.adaptive_avg_pool2d(fine, CELLS).flatten(1).float()
        rest = torch.zeros(len(words)), [False] * len(words), "Fake", "a fake"
        return [
            Explanation(image, text, words, maps, Grid(CELLS, CELLS, 0), None, 1, 0, method, *rest)
        ]

    return explain


def painted(pixels, word):
    """Where the image has the colour that the word names; everywhere, of other words."""
    if word not in COLOURS:
        return np.ones((64, 64))
    return (abs(pixels - COLOURS[word]) <= GRAIN).all(axis=2)


def test_a_map_of_the_colours_pixels_hits_and_an_even_one_is_chance(data, matcher, monkeypatch):
    monkeypatch.setattr(measures, "explain", explain_with(painted))
    measured = measure_explanations(matcher, data, "val", n_images=3)
    assert measured["pointing/colour"] == 1
    assert measured["mass/colour"] > 0.95  # of a cell at the edge, a part is outside
    assert measured["pointing_random/colour"] < 0.2
    assert measured["pointing/shape"] == pytest.approx(measured["pointing_random/shape"])
    assert measured["mass/shape"] == pytest.approx(measured["mass_area/shape"], abs=1e-6)
    assert measured["words/shape"] == measured["words/colour"] >= 6
    assert measured["shuffled_weights"] == pytest.approx(1)  # the fake reads no weights
    assert measured["images"] == 3


def test_a_map_with_x_and_y_swapped_misses(data, matcher, monkeypatch):
    monkeypatch.setattr(measures, "explain", explain_with(lambda *at: painted(*at).T))
    measured = measure_explanations(matcher, data, "val", n_images=3)
    assert measured["pointing/colour"] < 0.6


def test_large_boxes_are_left_out(data, matcher, monkeypatch):
    monkeypatch.setattr(measures, "explain", explain_with(painted))
    monkeypatch.setattr(measures, "LARGEST", 0.05)
    small = measure_explanations(matcher, data, "val", n_images=2)
    assert small["mass_area/shape"] < 0.05
    assert "pointing/count" not in small  # two things are larger


class Cropping(TorchvisionCNN):
    """Keeps the middle quarter of an image."""

    def transform(self, train):
        return ToPixels([v2.Resize((128, 128)), v2.CenterCrop(64)])


def test_an_image_is_cropped_once(data, matcher, monkeypatch):
    """What is deleted and inserted is what the encoder reads, whose part the map covers."""
    image_encoder = Cropping("squeezenet1_1")
    cropping = Matcher(image_encoder, matcher.text_encoder, CrossAttention(), dim=16)
    whole, encoded = [], []

    def scores(matcher, pixels, texts):
        whole.append(pixels[:, 0] if len(whole) == 0 else pixels[:, -1])  # deleted, inserted
        return scores_of_pixels(matcher, pixels, texts)

    monkeypatch.setattr(measures, "scores_of_pixels", scores)
    monkeypatch.setattr(
        measures, "_of_words", lambda m, e, pixels, seed: encoded.append(pixels) or {}
    )
    measured = measure_explanations(cropping, data, "val", n_images=1)
    assert "deletion_rank" in measured
    read = image_encoder.pixels([data.source.image(data.records("val")[0])])
    for pixels in (*whole, *encoded):
        assert (pixels == read).all()
    assert len(whole) == 2


class TwoBad(Scenes):
    """Scenes whose first two images do not decode."""

    def verify(self, record):
        if record.image_id in [each.image_id for each in self.records("val")[:2]]:
            raise InputError(f"photo {record.location} does not decode")


def test_bad_images_that_are_skipped_are_not_explained():
    data = ITMDataModule(TwoBad(train=1, val=6, test=1), on_bad_image="skip")
    with pytest.warns(UserWarning, match="skipped 2 bad of 6 photos"):
        chosen, others = explained_records(data, "val", 2)
    every = data.source.records("val")
    assert [record.image_id for record in chosen] == [every[2].image_id, every[4].image_id]
    assert [record.image_id for record in others] == [every[3].image_id, every[5].image_id]


def test_the_table_counts_the_pairs_whose_curves_rise():
    found = {
        "deletion": [torch.tensor([0.5]), torch.tensor([torch.nan]), torch.tensor([1.0])],
        "deletion_random": [torch.tensor([0.5])] * 3,
        "pointing/shape": [torch.tensor([1.0, 0.0])],
    }
    means = measures._means(found)
    assert means["deletion"] == 0.75
    counts = {key: value for key, value in means.items() if key.startswith(("pairs/", "words/"))}
    assert counts == {"pairs/deletion": 2, "words/shape": 2}
    (line,) = [line for line in table({"images": 3, **means}).splitlines() if "deletion" in line]
    assert line.split()[:4] == ["deletion", "0.750", "2", "pairs"]


def test_the_real_maps_of_a_model_are_measured_the_same_each_time(data, matcher):
    first, second = (measure_explanations(matcher, data, "val", n_images=2) for _ in range(2))
    assert first == second
    assert {"pointing/shape", "mass", "deletion_rank", "insertion_rank_centre"} <= set(first)
    assert {"other_word", "shuffled_weights"} <= set(first)
    assert all(-1 <= value <= 1 for key, value in first.items() if key.split("/")[0] in MEASURES)
    assert first["shuffled_weights"] < 0.99


def test_a_method_that_fails_on_shuffled_weights_leaves_that_measure_out(
    data, matcher, monkeypatch
):
    trained = matcher.image_projection.state_dict()["linear.weight"].clone()

    def explain(matcher, *pair):
        weights = matcher.image_projection.state_dict()["linear.weight"]
        if not torch.equal(weights, trained):
            raise InputError("it does not converge")
        return explain_with(painted)(matcher, *pair)

    monkeypatch.setattr(measures, "explain", explain)
    measured = measure_explanations(matcher, data, "val", n_images=1)
    assert "shuffled_weights" not in measured
    assert measured["pointing/colour"] == 1
    assert torch.equal(matcher.image_projection.state_dict()["linear.weight"], trained)


def test_regions_alone_are_refused(matcher, tmp_path):
    np.save(tmp_path / "val_ims.npy", np.zeros((2, 3, 8), dtype=np.float32))
    (tmp_path / "val_caps.txt").write_text("a dog\na cat\n")
    with pytest.raises(InputError, match="Precomputed has only their regions"):
        measure_explanations(matcher, ITMDataModule(Precomputed(tmp_path)), "val")


def test_table_and_picture_have_every_measure_beside_its_baselines(tmp_path):
    measured = {"images": 5.0, "words/shape": 12.0, "pointing": 0.5, "pointing/shape": 0.75}
    measured |= {"pointing_centre/shape": 0.125, "pointing_best/shape": 0.9, "other_word": -0.25}
    lines = table(measured).splitlines()
    beside = ["centre", "0.125", "·", "best", "0.900"]
    assert lines[0] == "explanations of 5 pairs"
    assert lines[2].split() == ["pointing/shape", "0.750", "12", "words", *beside]
    assert lines[3].split() == ["other_word", "-0.250"]
    meanings = definitions({"Cosine": {}, "MaxSim": measured})
    assert "pointing: share of words whose map is largest" in meanings
    assert "insertion" not in meanings
    picture({"Cosine": measured, "MaxSim": {"other_word": 0.1}}, tmp_path / "measures.png")
    assert Image.open(tmp_path / "measures.png").width > 600
