import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.part import from_config, skip_pretrained, to_config
from itm_lightning.similarity import Cosine, ScaledCosine
from itm_lightning.types import Features
from tests.encoders.conftest import MODELS
from tests.made_up import made_up_features

SCALE, BIAS = 2.5, {"clip": None, "siglip": -7.0}  # log of the scale; CLIP has no bias


@pytest.fixture(params=BIAS)
def model(request):
    transformers = pytest.importorskip("transformers")
    model = MODELS[request.param](transformers)[0].eval()
    model.logit_scale.data.fill_(SCALE)
    if BIAS[request.param] is not None:
        model.logit_bias.data.fill_(BIAS[request.param])
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_equals_the_pretrained_models_logits(model, folder):
    with torch.no_grad():
        output = model(torch.tensor([[2, 5, 3], [2, 7, 3]]), torch.rand(3, 3, 32, 32))
        sides = [Features.from_pooled(x) for x in (output.image_embeds, output.text_embeds)]
        scores = ScaledCosine(pretrained=folder)(*sides)
    torch.testing.assert_close(scores, output.logits_per_image, rtol=0, atol=1e-5)


def test_a_checkpoint_is_read_without_the_folder(model, folder, tmp_path):
    head = ScaledCosine(pretrained=folder)
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with skip_pretrained():
        again = from_config(to_config(head))
    again.load_state_dict(head.state_dict())
    assert again.log_scale.item() == pytest.approx(SCALE)
    assert again.bias.item() == (BIAS[model.config.model_type] or 0)


def test_scale_and_bias_by_hand_and_learnt():
    head = ScaledCosine(scale=10.0, bias=-2.0)
    images, texts = (Features.from_pooled(torch.tensor([x])) for x in ([3.0, 4.0], [2.0, 0.0]))
    score = head(images, texts)
    assert score.item() == pytest.approx(10 * 0.6 - 2)
    score.backward()
    assert head.log_scale.grad.item() == pytest.approx(10 * 0.6)
    assert head.bias.grad.item() == 1


def test_starts_as_the_cosine():
    images, texts = made_up_features(4, 3, seed=1), made_up_features(5, 3, seed=2)
    torch.testing.assert_close(ScaledCosine()(images, texts), Cosine()(images, texts))


def test_a_scale_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="scale is 0; it must be above 0"):
        ScaledCosine(scale=0)


def test_what_is_no_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=r"pretrained .* is no local folder"):
        ScaledCosine(pretrained=str(tmp_path))


def test_a_model_without_scale_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    MODELS["bert"](transformers)[0].save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no logit_scale: name a CLIP or SigLIP"):
        ScaledCosine(pretrained=str(tmp_path))
