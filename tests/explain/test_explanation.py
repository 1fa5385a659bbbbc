"""What each method says of one pair, on a small Matcher with random weights."""

import importlib.util
import itertools

import pytest
import torch
from PIL import Image

from itm_lightning import Matcher, similarity
from itm_lightning.data import Scenes
from itm_lightning.encoders import (
    BagOfWords,
    NoProjection,
    PretrainedText,
    PretrainedVision,
    RecurrentText,
    RegionFeatures,
)
from itm_lightning.errors import InputError
from itm_lightning.explain import RegionImage, explain
from itm_lightning.explain.words import text_inputs
from itm_lightning.types import Features
from tests.encoders.conftest import clip
from tests.made_up import made_up_features

TEXTS = ["a big red circle above a small blue star", "a small green ring"]
DIM = 12


def text_encoder():
    encoder = RecurrentText(hidden=8, word_dim=10)
    encoder.learn_vocabulary(TEXTS)
    return encoder


def matcher_of(head, text=None, **arguments):
    """Regions of width 10 against texts; the weights are random, and biases not zero."""
    torch.manual_seed(0)
    matcher = Matcher(RegionFeatures(10), text or text_encoder(), head, dim=DIM, **arguments)
    with torch.no_grad():
        for name, weight in matcher.named_parameters():
            if name.endswith("linear.bias"):
                weight.normal_()
    return matcher.eval()


@pytest.fixture
def image():
    return RegionImage(made_up_features(1, 6, dim=10, seed=5))


def total(explanation):
    return float(explanation.maps.sum() + explanation.unplaced.sum()) + explanation.residue


ADDITIVE = {
    "CrossAttention": similarity.CrossAttention(aggregate="Mean"),
    "LogSumExp": similarity.CrossAttention(),
    "MaxSim": similarity.MaxSim(),
    "SmoothChamfer": similarity.SmoothChamfer(),
}
MEANS = {
    "Cosine": similarity.Cosine(),
    "ScaledCosine": similarity.ScaledCosine(scale=3.0, bias=-1.0),
    "Bilinear": similarity.Bilinear(DIM, rank=3),
    "DotProduct": similarity.DotProduct(),
}
SMOOTH = MEANS | {"Euclidean": similarity.Euclidean(), "Lorentz": similarity.Lorentz(DIM)}


@pytest.mark.parametrize("name", ADDITIVE)
def test_a_head_of_parts_is_explained_by_them(name, image):
    head = ADDITIVE[name]
    found = explain(matcher_of(head), image, TEXTS[0])[0]
    assert found.method == "contributions"
    assert found.words == TEXTS[0].split()
    assert found.maps.shape == (9, 6)
    assert total(found) == pytest.approx(found.score, abs=1e-5)
    if head.left_out is None:
        assert found.residue == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", MEANS)
def test_the_parts_of_two_means_add_up(name, image):
    matcher = matcher_of(MEANS[name])
    found = explain(matcher, image, TEXTS[0], "contributions")[0]
    bias = float(matcher.similarity.score_of_inner_product(torch.zeros(())))
    assert found.residue == pytest.approx(bias, abs=1e-5)
    assert total(found) == pytest.approx(found.score, abs=1e-5)


def test_the_parts_of_a_cosine_of_means_are_those_of_the_formula(image):
    matcher = matcher_of(similarity.Cosine())
    found = explain(matcher, image, TEXTS[1], "contributions")[0]
    with torch.no_grad():
        x = matcher.image_projection.project(image.regions.tokens[0])
        y = matcher.text_projection.project(matcher.text_encoder([TEXTS[1]]).tokens[0])
    lengths = x.mean(0).norm() * y.mean(0).norm()
    for (i, region), (j, word) in itertools.product(enumerate(x), enumerate(y)):
        expected = (region / 6) @ (word / 4) / lengths
        assert found.maps[j, i].item() == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
def test_second_order_attributions_and_their_residue_add_up(name, image):
    found = explain(matcher_of(SMOOTH[name]), image, TEXTS[0])[0]
    assert found.method == "second_order"
    assert found.maps.abs().sum() > 1e-4
    assert total(found) == pytest.approx(found.score, abs=1e-3 * max(1, abs(found.score)))


def test_second_order_attributions_of_linear_sides_are_exact(image):
    """Where both sides are sums, the parts are inner products of the tokens' own vectors."""
    torch.manual_seed(0)
    counts = BagOfWords("counts", dim=10)
    counts.learn_vocabulary(TEXTS)
    matcher = Matcher(RegionFeatures(10), counts, similarity.DotProduct(), dim=DIM)
    found = explain(matcher, image, TEXTS[1], "second_order")[0]
    places, words = matcher.image_projection.linear.weight, matcher.text_projection.linear.weight
    columns = [counts.vocabulary.id(word) - 2 for word in TEXTS[1].split()]
    expected = (image.regions.tokens[0] / 6) @ places.T @ words[:, columns]
    torch.testing.assert_close(found.maps, expected.T.detach(), atol=1e-5, rtol=1e-4)
    assert total(found) == pytest.approx(found.score, abs=1e-4)


def test_occlusion_is_the_second_difference(image):
    matcher = matcher_of(similarity.MaxSim())
    found = explain(matcher, image, TEXTS[1], "occlusion")[0]
    assert found.residue is None
    inputs = text_inputs(matcher.text_encoder, TEXTS[1])
    for place, word in itertools.product(range(6), range(4)):
        values, mask = inputs.values.clone(), image.regions.mask.clone()
        values[word], mask[:, place] = inputs.hidden[word], False
        with torch.no_grad():
            images = [image.regions, Features(image.regions.tokens, mask, None)]
            images = [matcher.encode_images(each) for each in images]
            projected = [
                matcher.text_projection(inputs.encode(each[None]))
                for each in (inputs.values, values)
            ]
            (a, b), (c, d) = ([matcher.similarity(i, t).item() for t in projected] for i in images)
        assert found.maps[word, place].item() == pytest.approx(a - b - c + d, abs=1e-5)


@pytest.mark.skipif(not importlib.util.find_spec("captum"), reason="captum is not installed")
def test_grad_cam_of_a_mean_is_its_gradient_times_each_place(image):
    """Between a mean and a dot product the gradient is the same at every place."""
    matcher = matcher_of(similarity.DotProduct())
    found = explain(matcher, image, TEXTS[1], "gradient")[0]
    inputs = text_inputs(matcher.text_encoder, TEXTS[1])
    without = inputs.values.clone()
    without[2] = inputs.hidden[2]
    with torch.no_grad():
        both = matcher.text_projection(inputs.encode(torch.stack([inputs.values, without]))).pooled
    channels = (both[0] - both[1]) @ matcher.image_projection.linear.weight / 6
    expected = image.regions.tokens[0] @ channels
    torch.testing.assert_close(found.maps[2], expected.detach(), atol=1e-6, rtol=1e-4)


def test_without_captum_the_extra_is_named(image, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(InputError, match="pip install captum"):
        explain(matcher_of(similarity.MaxSim()), image, TEXTS[0], "gradient")


@pytest.mark.parametrize(
    ("head", "method", "said"),
    [
        (similarity.Euclidean(), "contributions", "Euclidean is no sum of parts"),
        (similarity.Cosine(), "alignment", "Cosine aligns no words"),
        (similarity.MaxSim(), "second_order", "heads of pooled vectors"),
        (similarity.Hamming(), "second_order", "Hamming cannot be differentiated twice"),
        (similarity.MaxSim(), "magic", "no method 'magic'"),
    ],
)
def test_a_head_without_the_method_is_named(head, method, said, image):
    with pytest.raises(InputError, match=said):
        explain(matcher_of(head), image, TEXTS[0], method)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_what_fails_elsewhere_is_not_blamed_on_the_head(error, image, monkeypatch):
    def fails(*_):
        raise error("no room")

    matcher = matcher_of(similarity.Cosine())
    monkeypatch.setattr("itm_lightning.explain.attributions._integrated", fails)
    with pytest.raises(error, match="no room"):
        explain(matcher, image, TEXTS[0])


def test_memory_that_runs_out_is_not_blamed_on_the_head(image, monkeypatch):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("itm_lightning.explain.attributions.torch.autograd.grad", fails)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        explain(matcher_of(similarity.Cosine()), image, TEXTS[0])


def test_what_is_no_pair_is_refused(image):
    matcher = matcher_of(similarity.MaxSim())
    with pytest.raises(InputError, match="text 2 is empty"):
        explain(matcher, [image, image], [TEXTS[0], " "])
    with pytest.raises(InputError, match="1 images and 2 texts"):
        explain(matcher, [image], TEXTS)
    with pytest.raises(InputError, match="RegionFeatures reads precomputed regions"):
        explain(matcher, Image.new("RGB", (8, 8)), TEXTS[0])


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    for part in clip(transformers):
        part.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("joint_space", [False, True])
@pytest.mark.parametrize(
    "head", [similarity.Cosine(), similarity.MaxSim()], ids=["pooled", "tokens"]
)
def test_transformers_whose_class_token_and_marks_have_no_place(clip_folder, head, joint_space):
    image_encoder = PretrainedVision(clip_folder, joint_space=joint_space, trainable=False)
    text = PretrainedText(clip_folder, joint_space=joint_space, trainable=False)
    projection = NoProjection() if joint_space else None
    matcher = Matcher(
        image_encoder, text, head, image_projection=projection, text_projection=projection
    )
    scenes = Scenes(val=1)
    picture = scenes.image(scenes.records("val")[0])
    for method in ("auto", "occlusion"):
        found = explain(matcher, picture, "A dog's ball.", method)[0]
        words = ["<s>", "a", "dog", "'", "s", "ball", ".", "</s>"]
        assert found.words == (["(whole text)"] if joint_space else []) + words
        assert found.special == [word not in words[1:-1] for word in found.words]
        assert found.maps.shape == (len(found.words), 4)
        if found.residue is not None:
            assert total(found) == pytest.approx(found.score, abs=1e-3)
    assert text.trainable is False
